//! What a program answers to one call: an interpreter. Documentation/networking/filter.rst. What the walk over all
//! calls claims is confirmed with it.

use super::insn::{Alu, Cmp, MEMORY, Op, Program, WORDS};

/// `struct seccomp_data` of linux/seccomp.h, as 16 words; little-endian, as both our architectures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call(pub [u32; WORDS]);

impl Call {
    /// The word of the number.
    pub const NUMBER: usize = 0;
    /// The word of the architecture.
    pub const ARCH: usize = 1;
    /// The words of the instruction pointer.
    pub const POINTER: [usize; 2] = [2, 3];

    /// The word of the low half of an argument; that of the high half is the next.
    pub const fn argument(n: usize) -> usize {
        4 + 2 * n
    }

    /// A call without arguments.
    pub fn new(arch: u32, number: u32) -> Call {
        let mut words = [0; WORDS];
        words[Call::NUMBER] = number;
        words[Call::ARCH] = arch;
        Call(words)
    }

    /// The six arguments.
    pub fn args(&self) -> [u64; 6] {
        std::array::from_fn(|n| {
            let at = Call::argument(n);
            u64::from(self.0[at]) | u64::from(self.0[at + 1]) << 32
        })
    }

    /// The same with one word exchanged.
    pub fn with(mut self, word: usize, value: u32) -> Call {
        if let Some(to) = self.0.get_mut(word) {
            *to = value;
        }
        self
    }
}

/// The result, and the instructions that led to it, the last one the return.
pub fn path(program: &Program, call: &Call) -> (u32, Vec<usize>) {
    let (mut path, mut machine) = (Vec::new(), Machine::default());
    let mut pc = 0;
    loop {
        path.push(pc);
        // A checked program has an instruction there; if not: fail closed.
        let Some(op) = program.ops().get(pc) else { return (0, path) };
        match machine.step(*op, pc, call) {
            Ok(next) => pc = next,
            Err(result) => return (result, path),
        }
    }
}

/// The result alone.
pub fn result(program: &Program, call: &Call) -> u32 {
    path(program, call).0
}

#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Machine {
    /// Where it goes on, or what it returns.
    fn step(&mut self, op: Op, pc: usize, call: &Call) -> Result<usize, u32> {
        match op {
            Op::Load(word) => self.a = call.0[word],
            Op::SetA(k) => self.a = k,
            Op::SetX(k) => self.x = k,
            Op::Recall(k) => self.a = self.memory[k],
            Op::RecallX(k) => self.x = self.memory[k],
            Op::Store(k) => self.memory[k] = self.a,
            Op::StoreX(k) => self.memory[k] = self.x,
            Op::Alu(alu, operand) => {
                // The kernel ends a program that divides by 0, with the result 0.
                self.a = compute(alu, self.a, operand.unwrap_or(self.x)).ok_or(0u32)?;
            }
            Op::Neg => self.a = self.a.wrapping_neg(),
            Op::Jump(to) => return Ok(to),
            Op::If(cmp, operand, then, other) => {
                return Ok(if holds(cmp, self.a, operand.unwrap_or(self.x)) {
                    then
                } else {
                    other
                });
            }
            Op::Return(value) => return Err(value.unwrap_or(self.a)),
            Op::Tax => self.x = self.a,
            Op::Txa => self.a = self.x,
        }
        Ok(pc + 1)
    }
}

/// `None`: a division by 0.
pub fn compute(alu: Alu, a: u32, operand: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(operand),
        Alu::Sub => a.wrapping_sub(operand),
        Alu::Mul => a.wrapping_mul(operand),
        Alu::Div => return a.checked_div(operand),
        Alu::Or => a | operand,
        Alu::And => a & operand,
        Alu::Lsh => a.wrapping_shl(operand),
        Alu::Rsh => a.wrapping_shr(operand),
        Alu::Xor => a ^ operand,
    })
}

/// Unsigned, as the kernel compares.
pub fn holds(cmp: Cmp, a: u32, operand: u32) -> bool {
    match cmp {
        Cmp::Eq => a == operand,
        Cmp::Gt => a > operand,
        Cmp::Ge => a >= operand,
        Cmp::Set => a & operand != 0,
    }
}
