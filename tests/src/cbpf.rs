//! A classic-BPF interpreter, written from the kernel documentation: the oracle of the filter tests.
