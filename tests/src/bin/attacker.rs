//! What a hostile agent does, in a room: one attack a name. Each prints `NAME: ok`, or
//! `NAME: N` with the errno. What an attack had for an effect is for the test to see.

use agent_tests::sys;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| args.get(n).and_then(|a| a.parse::<i32>().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        Some("die") => sys::die(number(1)),
        _ => println!("no such attack"),
    }
}
