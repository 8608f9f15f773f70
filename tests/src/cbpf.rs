//! A classic-BPF interpreter for seccomp programs: the oracle of the filter tests.
//!
//! Written from the kernel's Documentation/networking/filter.rst and userspace-api/seccomp_filter.rst, and knows
//! nothing of the assembler. [`Program::check`] refuses what the kernel refuses; [`Program::run`] then cannot fail.

use std::fmt;

use agent_init::bpf::SockFilter;

/// `struct seccomp_data` of linux/seccomp.h: what a program sees of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeccompData {
    /// The number; the kernel's is an `int`.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the call was made.
    pub ip: u64,
    /// The arguments, all 64 bits of the registers.
    pub args: [u64; 6],
}

impl SeccompData {
    /// `sizeof(struct seccomp_data)`, also what `BPF_LEN` loads.
    pub const SIZE: u32 = 64;

    /// The 32 bits at a byte offset, aligned and below [`Self::SIZE`]; little-endian as both our architectures.
    fn word(&self, offset: u32) -> u32 {
        let index = offset as usize / 8;
        let pair = match index {
            0 => u64::from(self.arch) << 32 | u64::from(self.nr),
            1 => self.ip,
            _ => self.args[index - 2],
        };
        let [a, b, c, d, e, f, g, h] = pair.to_le_bytes();
        u32::from_le_bytes(if offset & 4 == 0 { [a, b, c, d] } else { [e, f, g, h] })
    }
}

/// Why the kernel would not take a program: the index of the instruction, and the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub usize, pub &'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "instruction {}: {}", self.0, self.1)
    }
}

/// `BPF_MAXINSNS`.
const MAX_INSNS: usize = 4096;
/// `BPF_MEMWORDS`: scratch memory, in words.
const MEM_WORDS: usize = 16;

// Operand: the constant or X. One name for the bit 0x08 of all classes.
const X: u16 = 0x08;

/// An instruction taken apart. The second operand is `None` where it is the register X.
#[derive(Clone, Copy, Debug)]
enum Op {
    Load(u32),                          // A = data[k]
    SetA(u32),                          // A = k
    SetX(u32),                          // X = k
    LoadMem(usize),                     // A = M[k]
    LoadMemX(usize),                    // X = M[k]
    Store(usize),                       // M[k] = A
    StoreX(usize),                      // M[k] = X
    Alu(Alu, Option<u32>),              // A = A op operand
    Jump(usize),                        // pc += k
    If(Cmp, Option<u32>, usize, usize), // pc += A cmp operand ? jt : jf
    Return(Option<u32>),                // the constant, or A
    Tax,                                // X = A
    Txa,                                // A = X
}

#[derive(Clone, Copy, Debug)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Neg,
    Xor,
}

#[derive(Clone, Copy, Debug)]
enum Cmp {
    Eq,
    Gt,
    Ge,
    Set,
}

/// A program the kernel would take.
#[derive(Debug)]
pub struct Program {
    ops: Vec<Op>,
}

impl Program {
    /// Checks what the kernel checks before it installs a program.
    pub fn check(insns: &[SockFilter]) -> Result<Program, Invalid> {
        if insns.is_empty() || insns.len() > MAX_INSNS {
            return Err(Invalid(insns.len(), "not 1 to 4096 instructions"));
        }
        let ops = (insns.iter().enumerate())
            .map(|(pc, insn)| decode(insn).map_err(|why| Invalid(pc, why)))
            .collect::<Result<Vec<_>, _>>()?;
        check_jumps(&ops)?;
        check_memory(&ops)?;
        Ok(Program { ops })
    }

    /// Runs it; `visit` gets the index of each instruction that is executed, in that order.
    pub fn run(&self, data: &SeccompData, mut visit: impl FnMut(usize)) -> u32 {
        let (mut a, mut x, mut mem, mut pc) = (0u32, 0u32, [0u32; MEM_WORDS], 0);
        loop {
            visit(pc);
            let op = self.ops[pc];
            pc += 1;
            match op {
                Op::Load(offset) => a = data.word(offset),
                Op::SetA(k) => a = k,
                Op::SetX(k) => x = k,
                Op::LoadMem(k) => a = mem[k],
                Op::LoadMemX(k) => x = mem[k],
                Op::Store(k) => mem[k] = a,
                Op::StoreX(k) => mem[k] = x,
                Op::Alu(Alu::Div, None) if x == 0 => return 0, // the kernel ends the program
                Op::Alu(alu, operand) => a = compute(alu, a, operand.unwrap_or(x)),
                Op::Jump(k) => pc += k,
                Op::If(cmp, operand, jt, jf) => {
                    pc += if holds(cmp, a, operand.unwrap_or(x)) { jt } else { jf };
                }
                Op::Return(value) => return value.unwrap_or(a),
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
    }

    /// The result alone.
    pub fn result(&self, data: &SeccompData) -> u32 {
        self.run(data, |_| ())
    }

    /// The result and the instructions that led to it.
    pub fn path(&self, data: &SeccompData) -> (u32, Vec<usize>) {
        let mut path = Vec::new();
        let result = self.run(data, |pc| path.push(pc));
        (result, path)
    }
}

/// The operations that seccomp permits, a subset of those for sockets: no byte or half-word loads, no `BPF_IND`, no
/// `BPF_MOD`.
fn decode(insn: &SockFilter) -> Result<Op, &'static str> {
    let k = insn.k;
    let slot = || usize::try_from(k).ok().filter(|&k| k < MEM_WORDS).ok_or("no such scratch word");
    let operand = if insn.code & X == 0 { Some(k) } else { None };
    let op = match insn.code {
        0x20 if k >= SeccompData::SIZE => return Err("load past struct seccomp_data"),
        0x20 if k & 3 != 0 => return Err("load is not aligned"),
        0x20 => Op::Load(k),
        0x00 => Op::SetA(k),
        0x01 => Op::SetX(k),
        0x80 => Op::SetA(SeccompData::SIZE),
        0x81 => Op::SetX(SeccompData::SIZE),
        0x60 => Op::LoadMem(slot()?),
        0x61 => Op::LoadMemX(slot()?),
        0x02 => Op::Store(slot()?),
        0x03 => Op::StoreX(slot()?),
        0x04 | 0x0c => Op::Alu(Alu::Add, operand),
        0x14 | 0x1c => Op::Alu(Alu::Sub, operand),
        0x24 | 0x2c => Op::Alu(Alu::Mul, operand),
        0x34 if k == 0 => return Err("division by zero"),
        0x34 | 0x3c => Op::Alu(Alu::Div, operand),
        0x44 | 0x4c => Op::Alu(Alu::Or, operand),
        0x54 | 0x5c => Op::Alu(Alu::And, operand),
        0x64 | 0x74 if k >= 32 => return Err("shift by more than 31"),
        0x64 | 0x6c => Op::Alu(Alu::Lsh, operand),
        0x74 | 0x7c => Op::Alu(Alu::Rsh, operand),
        0x84 => Op::Alu(Alu::Neg, operand),
        0xa4 | 0xac => Op::Alu(Alu::Xor, operand),
        0x05 => Op::Jump(usize::try_from(k).map_err(|_| "jump past the end")?),
        0x15 | 0x1d => Op::If(Cmp::Eq, operand, insn.jt.into(), insn.jf.into()),
        0x25 | 0x2d => Op::If(Cmp::Gt, operand, insn.jt.into(), insn.jf.into()),
        0x35 | 0x3d => Op::If(Cmp::Ge, operand, insn.jt.into(), insn.jf.into()),
        0x45 | 0x4d => Op::If(Cmp::Set, operand, insn.jt.into(), insn.jf.into()),
        0x06 => Op::Return(Some(k)),
        0x16 => Op::Return(None),
        0x07 => Op::Tax,
        0x87 => Op::Txa,
        _ => return Err("not an instruction that seccomp permits"),
    };
    Ok(op)
}

/// Every jump stays inside, and the last instruction returns: since all jumps go forward, every path then ends.
fn check_jumps(ops: &[Op]) -> Result<(), Invalid> {
    for (pc, op) in ops.iter().enumerate() {
        let after = ops.len() - pc - 1; // instructions that follow
        let inside = match *op {
            Op::Jump(k) => k < after,
            Op::If(_, _, jt, jf) => jt < after && jf < after,
            _ => true,
        };
        if !inside {
            return Err(Invalid(pc, "jump past the end"));
        }
    }
    match ops.last() {
        Some(Op::Return(_)) => Ok(()),
        _ => Err(Invalid(ops.len() - 1, "the last instruction does not return")),
    }
}

/// A scratch word is written on every path before it is read. `None`: no path leads here.
fn check_memory(ops: &[Op]) -> Result<(), Invalid> {
    let mut written: Vec<Option<u16>> = vec![None; ops.len()];
    written[0] = Some(0);
    for (pc, op) in ops.iter().enumerate() {
        let Some(mut here) = written[pc] else { continue };
        let mut flow = |to: usize, mask: u16| {
            written[to] = Some(written[to].map_or(mask, |other| other & mask));
        };
        match *op {
            Op::LoadMem(k) | Op::LoadMemX(k) if here >> k & 1 == 0 => {
                return Err(Invalid(pc, "reads a scratch word before it is written"));
            }
            Op::Store(k) | Op::StoreX(k) => here |= 1 << k,
            _ => (),
        }
        match *op {
            Op::Return(_) => (),
            Op::Jump(k) => flow(pc + 1 + k, here),
            Op::If(_, _, jt, jf) => {
                flow(pc + 1 + jt, here);
                flow(pc + 1 + jf, here);
            }
            _ => flow(pc + 1, here),
        }
    }
    Ok(())
}

fn compute(alu: Alu, a: u32, operand: u32) -> u32 {
    match alu {
        Alu::Add => a.wrapping_add(operand),
        Alu::Sub => a.wrapping_sub(operand),
        Alu::Mul => a.wrapping_mul(operand),
        Alu::Div => a / operand,
        Alu::Or => a | operand,
        Alu::And => a & operand,
        Alu::Lsh => a.wrapping_shl(operand),
        Alu::Rsh => a.wrapping_shr(operand),
        Alu::Neg => a.wrapping_neg(),
        Alu::Xor => a ^ operand,
    }
}

fn holds(cmp: Cmp, a: u32, operand: u32) -> bool {
    match cmp {
        Cmp::Eq => a == operand,
        Cmp::Gt => a > operand,
        Cmp::Ge => a >= operand,
        Cmp::Set => a & operand != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
        SockFilter { code, jt, jf, k }
    }
    const RET: SockFilter = insn(0x06, 0, 0, 7);

    fn refusal(insns: &[SockFilter]) -> (usize, &'static str) {
        let Invalid(pc, why) = Program::check(insns).expect_err("accepted");
        (pc, why)
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        assert_eq!(refusal(&[]), (0, "not 1 to 4096 instructions"));
        assert_eq!(refusal(&[RET; 4097]), (4097, "not 1 to 4096 instructions"));
        assert_eq!(refusal(&[insn(0x20, 0, 0, 64), RET]), (0, "load past struct seccomp_data"));
        assert_eq!(refusal(&[insn(0x20, 0, 0, 2), RET]), (0, "load is not aligned"));
        for code in [0x28, 0x30, 0x40, 0xa1, 0x94, 0x9c, 0x22, 0xffff] {
            let why = "not an instruction that seccomp permits";
            assert_eq!(refusal(&[insn(code, 0, 0, 0), RET]), (0, why));
        }
        for jump in [
            insn(0x05, 0, 0, 1),
            insn(0x05, 0, 0, u32::MAX),
            insn(0x15, 1, 0, 0),
            insn(0x35, 0, 1, 0),
        ] {
            assert_eq!(refusal(&[jump, RET]), (0, "jump past the end"));
        }
        assert_eq!(
            refusal(&[RET, insn(0x00, 0, 0, 0)]),
            (1, "the last instruction does not return")
        );
        assert_eq!(refusal(&[insn(0x34, 0, 0, 0), RET]), (0, "division by zero"));
        assert_eq!(refusal(&[insn(0x64, 0, 0, 32), RET]), (0, "shift by more than 31"));
        assert_eq!(refusal(&[insn(0x02, 0, 0, 16), RET]), (0, "no such scratch word"));
        // Written on one of two paths only.
        let half = [insn(0x15, 0, 1, 0), insn(0x02, 0, 0, 3), insn(0x60, 0, 0, 3), RET];
        assert_eq!(refusal(&half), (2, "reads a scratch word before it is written"));
    }

    #[test]
    fn loads_see_each_word_of_the_data() {
        let data = SeccompData {
            nr: 1,
            arch: 2,
            ip: 4 << 32 | 3,
            args: [0, 1, 2, 3, 4, 5].map(|n| (2 * n + 6) << 32 | (2 * n + 5)),
        };
        for k in 0..16 {
            let program = Program::check(&[insn(0x20, 0, 0, 4 * k), insn(0x16, 0, 0, 0)]).unwrap();
            assert_eq!(program.path(&data), (k + 1, vec![0, 1]));
        }
    }

    /// A = 6, X = 3; then the instruction, then `return A`.
    fn of_6_and_3(code: u16, k: u32) -> u32 {
        let program =
            [insn(0x00, 0, 0, 6), insn(0x01, 0, 0, 3), insn(code, 0, 0, k), insn(0x16, 0, 0, 0)];
        Program::check(&program).unwrap().result(&SeccompData::default())
    }

    #[test]
    fn arithmetic() {
        let with_x = [
            (0x0c, 9),
            (0x1c, 3),
            (0x2c, 18),
            (0x3c, 2),
            (0x4c, 7),
            (0x5c, 2),
            (0x6c, 48),
            (0x7c, 0),
            (0xac, 5),
        ];
        for (code, result) in with_x {
            assert_eq!(of_6_and_3(code, 0), result, "{code:#x}, X");
            assert_eq!(of_6_and_3(code & !X, 3), result, "{code:#x}, constant");
        }
        assert_eq!(of_6_and_3(0x84, 0), 6u32.wrapping_neg());
        assert_eq!(of_6_and_3(0x87, 0), 3);
        assert_eq!(of_6_and_3(0x80, 0), 64);
    }

    #[test]
    fn comparisons_skip_forward() {
        // A = 6; cmp 6 or 5 or 7: returns 1 if it holds, else 2.
        let ask = |code, k| {
            let program = [
                insn(0x00, 0, 0, 6),
                insn(code, 1, 0, k),
                insn(0x06, 0, 0, 2),
                insn(0x06, 0, 0, 1),
            ];
            Program::check(&program).unwrap().result(&SeccompData::default()) == 1
        };
        assert_eq!([5, 6, 7].map(|k| ask(0x15, k)), [false, true, false]);
        assert_eq!([5, 6, 7].map(|k| ask(0x25, k)), [true, false, false]);
        assert_eq!([5, 6, 7].map(|k| ask(0x35, k)), [true, true, false]);
        assert_eq!([1, 2, 9].map(|k| ask(0x45, k)), [false, true, false]);
    }
}
