//! agent-shim: the command.
use agent_shim::Sandbox;
use agent_init::layers::Layers;
fn main() {
    let mut a: Vec<String> = std::env::args().skip(1).collect();
    let l = agent_shim::profile::named(&a.remove(0)).unwrap();
    let p = a.remove(0);
    let _ = Layers::NONE;
    match Sandbox::new(p).args(a).layers(l).spawn() {
        Ok(mut c) => println!("{:?}", c.wait()),
        Err(e) => { eprintln!("{e}\nhint: {}", e.hint()); std::process::exit(e.code().into()) }
    }
}
