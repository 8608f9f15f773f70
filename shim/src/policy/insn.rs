//! One instruction of a classic-BPF seccomp program, and what the kernel asks of a program before it takes it:
//! net/core/filter.c, bpf_check_classic and check_load_and_stores; kernel/seccomp.c, seccomp_check_filter. The
//! language: Documentation/networking/filter.rst.

use std::fmt;

use agent_init::bpf::{CAPACITY, SockFilter};
use agent_init::nr::{Arch, HOST};

/// Words of scratch memory, `BPF_MEMWORDS`.
pub const MEMORY: usize = 16;
/// `sizeof(struct seccomp_data)`: nr, arch, instruction_pointer, six args, in words of 4 bytes.
pub const WORDS: usize = 16;

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names")]
pub enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Xor,
}

/// Comparisons; a jump on "less" is one of these with its targets exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Greater, unsigned.
    Gt,
    /// Greater or equal, unsigned.
    Ge,
    /// At least one bit in common.
    Set,
}

/// An instruction taken apart. An operand that is `None` is the register X. Targets are indices in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `A = data[word]`
    Load(usize),
    /// `A = k`
    SetA(u32),
    /// `X = k`
    SetX(u32),
    /// `A = M[k]`
    Recall(usize),
    /// `X = M[k]`
    RecallX(usize),
    /// `M[k] = A`
    Store(usize),
    /// `M[k] = X`
    StoreX(usize),
    /// `A = A op operand`
    Alu(Alu, Option<u32>),
    /// `A = -A`
    Neg,
    /// Goes there.
    Jump(usize),
    /// Goes to the first if the comparison of A with the operand holds, else to the second.
    If(Cmp, Option<u32>, usize, usize),
    /// Ends with the constant, or with A.
    Return(Option<u32>),
    /// `X = A`
    Tax,
    /// `A = X`
    Txa,
}

/// Why the kernel would not take a program: the index of the instruction, and the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub usize, pub &'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "instruction {}: {}", self.0, self.1)
    }
}

/// A program that the kernel would take.
#[derive(Clone, Debug)]
pub struct Program {
    insns: Vec<SockFilter>,
    ops: Vec<Op>,
    arch: &'static Arch,
}

impl Program {
    /// Asks what the kernel asks.
    pub fn check(insns: &[SockFilter]) -> Result<Program, Invalid> {
        if insns.is_empty() {
            return Err(Invalid(0, "there is none"));
        }
        if insns.len() > CAPACITY {
            return Err(Invalid(CAPACITY, "more than 4096 of them"));
        }
        let decoded = insns.iter().enumerate().map(|(pc, insn)| {
            let op = decode(insn, pc).map_err(|why| Invalid(pc, why))?;
            let inside = match op {
                Op::Jump(to) => to < insns.len(),
                Op::If(_, _, then, other) => then < insns.len() && other < insns.len(),
                _ => true,
            };
            if inside { Ok(op) } else { Err(Invalid(pc, "jumps past the end")) }
        });
        let ops = decoded.collect::<Result<Vec<_>, _>>()?;
        if !matches!(ops.last(), Some(Op::Return(_))) {
            return Err(Invalid(ops.len() - 1, "the last one, does not return"));
        }
        check_memory(&ops)?;
        Ok(Program { insns: insns.to_vec(), ops, arch: HOST })
    }

    /// Read as one for this architecture: its numbers are those of the names, all others are foreign.
    pub fn on(self, arch: &'static Arch) -> Program {
        Program { arch, ..self }
    }

    /// What it is read for; this machine's, if nothing else was said.
    pub fn arch(&self) -> &'static Arch {
        self.arch
    }

    /// As the kernel has it.
    pub fn insns(&self) -> &[SockFilter] {
        &self.insns
    }

    /// Taken apart.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

impl Op {
    /// Where the program can go on from `pc`; `None`: it ends here, or there is no second way.
    pub fn next(self, pc: usize) -> [Option<usize>; 2] {
        match self {
            Op::Return(_) => [None, None],
            Op::Jump(to) => [Some(to), None],
            Op::If(_, _, then, other) => [Some(then), Some(other)],
            _ => [Some(pc + 1), None],
        }
    }
}

// The bit that makes the register X the operand, in all classes that have one.
const X: u16 = 0x08;

fn decode(insn: &SockFilter, pc: usize) -> Result<Op, &'static str> {
    let k = insn.k;
    let index = |most: usize| usize::try_from(k).ok().filter(|k| *k < most);
    let slot = || index(MEMORY).ok_or("there are 16 words of scratch memory");
    let operand = if insn.code & X == 0 { Some(k) } else { None };
    Ok(match insn.code {
        0x20 if !k.is_multiple_of(4) => {
            return Err("loads from an offset that is no multiple of 4");
        }
        0x20 => Op::Load(index(4 * WORDS).ok_or("loads past struct seccomp_data")? / 4),
        0x00 => Op::SetA(k),
        0x01 => Op::SetX(k),
        0x80 => Op::SetA(SIZE),
        0x81 => Op::SetX(SIZE),
        0x60 => Op::Recall(slot()?),
        0x61 => Op::RecallX(slot()?),
        0x02 => Op::Store(slot()?),
        0x03 => Op::StoreX(slot()?),
        0x04 | 0x0c => Op::Alu(Alu::Add, operand),
        0x14 | 0x1c => Op::Alu(Alu::Sub, operand),
        0x24 | 0x2c => Op::Alu(Alu::Mul, operand),
        0x34 if k == 0 => return Err("divides by 0"),
        0x34 | 0x3c => Op::Alu(Alu::Div, operand),
        0x44 | 0x4c => Op::Alu(Alu::Or, operand),
        0x54 | 0x5c => Op::Alu(Alu::And, operand),
        0x64 | 0x74 if k >= 32 => return Err("shifts by more than 31"),
        0x64 | 0x6c => Op::Alu(Alu::Lsh, operand),
        0x74 | 0x7c => Op::Alu(Alu::Rsh, operand),
        0x84 => Op::Neg,
        0xa4 | 0xac => Op::Alu(Alu::Xor, operand),
        0x05 => Op::Jump(pc + 1 + usize::try_from(k).map_err(|_| "jumps past the end")?),
        0x15 | 0x1d => condition(Cmp::Eq, operand, insn, pc),
        0x25 | 0x2d => condition(Cmp::Gt, operand, insn, pc),
        0x35 | 0x3d => condition(Cmp::Ge, operand, insn, pc),
        0x45 | 0x4d => condition(Cmp::Set, operand, insn, pc),
        0x06 => Op::Return(Some(k)),
        0x16 => Op::Return(None),
        0x07 => Op::Tax,
        0x87 => Op::Txa,
        _ => return Err("a code that seccomp does not have"),
    })
}

/// What `BPF_LEN` loads.
const SIZE: u32 = 64;

fn condition(cmp: Cmp, operand: Option<u32>, insn: &SockFilter, pc: usize) -> Op {
    Op::If(cmp, operand, pc + 1 + usize::from(insn.jt), pc + 1 + usize::from(insn.jf))
}

/// A word of scratch memory is written before it is read. As the kernel sees it: one pass, and what is written
/// before a return is taken as written after it, unless a jump leads there from where it is not.
fn check_memory(ops: &[Op]) -> Result<(), Invalid> {
    let mut masks = vec![u16::MAX; ops.len()];
    let mut written = 0u16;
    for (pc, op) in ops.iter().enumerate() {
        written &= masks.get(pc).copied().unwrap_or(u16::MAX);
        match *op {
            Op::Store(k) | Op::StoreX(k) => written |= 1 << k,
            Op::Recall(k) | Op::RecallX(k) if written & 1 << k == 0 => {
                return Err(Invalid(pc, "reads a word of scratch memory that is not written"));
            }
            Op::Jump(_) | Op::If(..) => {
                for to in op.next(pc).into_iter().flatten() {
                    if let Some(mask) = masks.get_mut(to) {
                        *mask &= written;
                    }
                }
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
