//! Every seed through its target, without a fuzzer: `cargo test --no-default-features`.

/// Cuts and bit flips of a seed that are tried; a disk takes longer than a message.
fn effort(target: &str) -> (usize, usize) {
    if target == "storage_volume" { (2, 8) } else { (20, 100) }
}

#[test]
fn every_seed_passes() {
    for (target, name, seed) in fuzz::seeds::all() {
        println!("{target} {name}");
        fuzz::run(target, &seed);
        let (cuts, flips) = effort(target);
        // And cuts of it, and flipped bits all over it.
        for index in 0..cuts.min(seed.len()) {
            fuzz::run(target, &seed[..index * seed.len() / cuts.min(seed.len())]);
        }
        let bits = seed.len() * 8;
        for index in 0..flips.min(bits) {
            let bit = index * bits / flips.min(bits) + index % 8;
            let mut damaged = seed.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            fuzz::run(target, &damaged);
        }
    }
}
