//! Every seed through its target, without a fuzzer: `cargo test --no-default-features`.

/// Cuts and bit flips of a seed that are tried.
const CUTS: usize = 20;
const FLIPS: usize = 100;

#[test]
fn every_seed_passes() {
    for (target, name, seed) in fuzz::seeds::all() {
        println!("{target} {name}");
        fuzz::run(target, &seed);
        // And cuts of it, and flipped bits all over it.
        for index in 0..CUTS.min(seed.len()) {
            fuzz::run(target, &seed[..index * seed.len() / CUTS.min(seed.len())]);
        }
        let bits = seed.len() * 8;
        for index in 0..FLIPS.min(bits) {
            let bit = index * bits / FLIPS.min(bits) + index % 8;
            let mut damaged = seed.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            fuzz::run(target, &damaged);
        }
    }
}
