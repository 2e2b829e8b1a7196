//! Runs inputs through a target without a fuzzer: `cargo run --no-default-features --example run_seed TARGET FILE-OR-SEED...`.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().expect("a target");
    let seeds = fuzz::seeds::all();
    for argument in arguments {
        let seed = seeds.iter().find(|(of, name, _)| *of == target && *name == argument);
        let data = match seed {
            Some((_, _, seed)) => seed.clone(),
            None => std::fs::read(&argument).expect("a seed's name or a file"),
        };
        println!("{target} {argument}");
        fuzz::run(&target, &data);
    }
}
