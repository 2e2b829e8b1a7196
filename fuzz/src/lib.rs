//! The bodies of the fuzz targets: each takes any bytes and must neither panic nor break what it asserts.
//!
//! They are ordinary functions, so that their seeds also run as tests on a stable compiler.

pub mod auth_exchange;
pub mod console_line;
pub mod flash_records;
pub mod input;
pub mod seeds;
pub mod seeds_server;
pub mod smb_messages;
pub mod smb_names;
pub mod smb_rpc;
pub mod smb_server;
pub mod smb_structures;
pub mod smb_transform;
pub mod storage_volume;

/// Runs a target by its name.
pub fn run(target: &str, data: &[u8]) {
    match target {
        "auth_exchange" => auth_exchange::run(data),
        "console_line" => console_line::run(data),
        "flash_records" => flash_records::run(data),
        "smb_commands" => smb_messages::commands(data),
        "smb_create_contexts" => smb_messages::create_contexts(data),
        "smb_names" => smb_names::run(data),
        "smb_negotiate" => smb_messages::negotiate(data),
        "smb_rpc" => smb_rpc::run(data),
        "smb_server" => smb_server::run(data),
        "smb_session_setup" => smb_messages::session_setup(data),
        "smb_structures" => smb_structures::run(data),
        "storage_volume" => storage_volume::run(data),
        "smb_transform" => smb_transform::run(data),
        _ => panic!("no target {target}"),
    }
}
