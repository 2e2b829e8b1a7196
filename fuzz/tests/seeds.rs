//! Every seed through its target, without a fuzzer: `cargo test --no-default-features`.

#[test]
fn every_seed_passes() {
    for (target, name, seed) in fuzz::seeds::all() {
        println!("{target} {name}");
        fuzz::run(target, &seed);
        // And every cut of it, and every bit of its start.
        for length in 0..seed.len().min(400) {
            fuzz::run(target, &seed[..length]);
        }
        for bit in 0..(seed.len() * 8).min(2000) {
            let mut damaged = seed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fuzz::run(target, &damaged);
        }
    }
}
