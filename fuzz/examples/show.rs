//! Shows what a `smb_server` input says and hears: `cargo run --no-default-features --example show FILE...`, or a seed's name.

fn main() {
    let seeds = fuzz::seeds::all();
    for argument in std::env::args().skip(1) {
        let seed = seeds.iter().find(|(target, name, _)| *target == "smb_server" && *name == argument);
        let data = match seed {
            Some((_, _, seed)) => seed.clone(),
            None => std::fs::read(&argument).expect("a seed's name or a file"),
        };
        println!("{argument}");
        fuzz::smb_server::serve(&data, &mut |request, replies| {
            let number = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0xFF);
            println!("  > command {} of {} bytes", number(request, 12), request.len());
            for reply in replies {
                let status =
                    reply.get(8..12).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
                let status = smb::status::NtStatus(status);
                println!("  < command {} {status:?}, {} bytes", number(reply, 12), reply.len());
            }
        });
    }
}
