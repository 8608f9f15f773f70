/* A policy in plain text on stdin, libseccomp's program for it on stdout: struct sock_filter after struct sock_filter.
 *
 * usage: libseccomp [tree]      tree: SCMP_FLTATR_CTL_OPTIMIZE=2, a binary tree of numbers; else its default, a list
 *        libseccomp version     the version of the library
 *
 *   default ACTION                       for what no rule names; first
 *   arch NAME                            one more than the native one: x86, x32
 *   rule ACTION CALL [ARG OP A B]...     CALL: a number or a name (one that libseccomp does not know is left out);
 *                                        OP: eq ne lt le gt ge, or `mask`: ARG & A == B
 *
 * ACTION is SECCOMP_RET_*, which SCMP_ACT_* equals. What libseccomp refuses ends it with 1 and a line on stderr.
 * seccomp_rule_add(3), seccomp_attr_set(3), seccomp_export_bpf(3). */
#include <ctype.h>
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const OPS[] = {"", "ne", "lt", "le", "eq", "ge", "gt", "mask"}; /* enum scmp_compare */

static void check(int rc, const char *what) {
    if (rc < 0) {
        fprintf(stderr, "libseccomp: %s: %s\n", what, strerror(-rc));
        exit(1);
    }
}

static const char *word(void) {
    const char *next = strtok(NULL, " \n");
    return next ? next : "";
}

static unsigned long long number(const char *text) { return strtoull(text, NULL, 0); }

static enum scmp_compare compare(const char *op) {
    for (unsigned n = 1; n < sizeof OPS / sizeof *OPS; n++)
        if (!strcmp(OPS[n], op)) return (enum scmp_compare)n;
    check(-EINVAL, op);
    return SCMP_CMP_EQ;
}

static void rule(scmp_filter_ctx filter) {
    struct scmp_arg_cmp args[6];
    unsigned count = 0;
    unsigned action = (unsigned)number(word());
    const char *call = word(), *arg;
    int nr = isdigit((unsigned char)*call) ? (int)number(call) : seccomp_syscall_resolve_name(call);
    if (nr == __NR_SCMP_ERROR) return;
    while (*(arg = word()) && count < 6) {
        enum scmp_compare op = compare(word());
        unsigned long long a = number(word()), b = number(word());
        args[count++] = (struct scmp_arg_cmp){(unsigned)number(arg), op, a, b};
    }
    check(seccomp_rule_add_array(filter, action, nr, count, args), call);
}

int main(int argc, char **argv) {
    char line[1024];
    if (argc > 1 && !strcmp(argv[1], "version")) {
        const struct scmp_version *version = seccomp_version();
        printf("%u.%u.%u\n", version->major, version->minor, version->micro);
        return 0;
    }
    scmp_filter_ctx filter = NULL;
    while (fgets(line, sizeof line, stdin)) {
        const char *what = strtok(line, " \n");
        if (!what) continue;
        if (!strcmp(what, "default")) {
            if (!(filter = seccomp_init((unsigned)number(word())))) check(-EINVAL, "seccomp_init");
            /* Its default kills the thread alone. */
            check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "badarch");
            if (argc > 1) check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
        } else if (!strcmp(what, "arch")) {
            check(seccomp_arch_add(filter, seccomp_arch_resolve_name(word())), "arch");
        } else if (!strcmp(what, "rule")) {
            rule(filter);
        } else {
            check(-EINVAL, what);
        }
    }
    check(filter ? seccomp_export_bpf(filter, STDOUT_FILENO) : -EINVAL, "export");
    return 0;
}
