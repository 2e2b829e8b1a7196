//! What the commands need from the appliance.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// A change that was refused says why, in words for a person, without a full stop.
pub type Outcome<T = ()> = Result<T, String>;

/// The appliance, as the commands see it. Calls may block: the shell has a thread of its own.
pub trait System {
    /// How everything stands.
    fn status(&self) -> Status;

    /// The threads, workers first, in the order to show them.
    fn threads(&self) -> Vec<Thread>;

    /// The connections of clients.
    fn connections(&self) -> Vec<Connection>;

    /// The disks, in the order of their channels.
    fn disks(&self) -> Vec<Disk>;

    /// Reads the disk on channel `disk` for a few seconds, in several ways, and says how fast it is.
    fn disk_speed(&self, disk: usize) -> Outcome<Vec<DiskSpeed>>;

    /// The Ethernet ports.
    fn ports(&self) -> Vec<Port>;

    /// Calls `visit` with each line of the log, oldest first.
    fn log(&self, visit: &mut dyn FnMut(&str));

    /// The channels of the disks that a volume is on, whether it is in use or not; none if there is no such volume.
    fn disks_of_volume(&self, volume: usize) -> Vec<usize>;

    /// Removes a volume with its shares: its disks are blank then.
    fn remove_volume(&mut self, volume: usize) -> Outcome;

    /// Lets a volume take all the room of its disks. No share shows it meanwhile.
    fn grow_volume(&mut self, volume: usize) -> Outcome<Growth>;

    /// Lays a new file system over the disk on channel `disk`: all that is on it is lost.
    fn format(&mut self, disk: usize, format: DiskFormat) -> Outcome;

    /// The array, if a disk belongs to one.
    fn array(&self) -> Option<Array>;

    /// Whether something is lost when the disk on channel `disk` is added to the array, or to the other disk to make
    /// one; or why it cannot be.
    fn adding_loses(&self, disk: usize) -> Outcome<bool>;

    /// Changes the array.
    fn change_array(&mut self, change: ArrayChange) -> Outcome;

    /// Checks a volume, which no share shows meanwhile, and repairs it if told to. What is found, and how far it is, goes to
    /// `out` as it comes.
    fn check(&mut self, volume: usize, repair: bool, out: &mut dyn Write) -> Outcome;

    /// The accounts.
    fn users(&self) -> Vec<User>;

    /// Makes an account. The name is not in use.
    fn add_user(&mut self, name: &str, password: &str, administrator: bool) -> Outcome;

    /// Removes an account; its sessions end.
    fn remove_user(&mut self, name: &str) -> Outcome;

    /// Gives an account a new password.
    fn set_password(&mut self, name: &str, password: &str) -> Outcome;

    /// The shares.
    fn shares(&self) -> Vec<Share>;

    /// Makes a share.
    fn add_share(&mut self, share: &Share) -> Outcome;

    /// Removes a share; what is open in it is closed. The files stay.
    fn remove_share(&mut self, name: &str) -> Outcome;

    /// Seconds since 1970 UTC; `None` when the clock was never set.
    fn wall_clock(&self) -> Option<u64>;

    /// Sets the clock to `seconds` since 1970 UTC.
    fn set_wall_clock(&mut self, seconds: u64) -> Outcome;

    /// What the last crash left behind.
    fn crash(&self) -> Option<Crash>;

    /// Writes everything to the disks and ends the run. May return on a simulated board.
    fn restart(&mut self, how: Restart) -> Outcome;
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start again.
    Reboot,
    /// Switch the power off.
    PowerOff,
}

/// How everything stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Host name.
    pub host_name: String,
    /// Name of the build.
    pub build: String,
    /// A line about the machine.
    pub machine: String,
    /// Milliseconds since the start.
    pub uptime: u64,
    /// Memory.
    pub memory: Memory,
    /// Block cache.
    pub cache: Cache,
    /// Worker threads that have a request in hand now, of how many.
    pub workers: (usize, usize),
    /// The most workers that were ever busy at once.
    pub workers_high_water: usize,
    /// TCP connections of clients, of how many there can be.
    pub connections: (usize, usize),
    /// Sessions, of how many there can be.
    pub sessions: (usize, usize),
    /// Open files, of how many there can be.
    pub open_files: (usize, usize),
    /// Open handles, of how many there can be.
    pub handles: (usize, usize),
    /// Requests answered since the start.
    pub requests: u64,
    /// Bytes a thing takes, for `status -v`.
    pub sizes: Sizes,
}

/// Bytes that each of the engine's things takes in its arena.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// A session.
    pub session: usize,
    /// An open file, shared by its handles.
    pub open_file: usize,
    /// A handle.
    pub handle: usize,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// RAM fitted.
    pub total: u64,
    /// Taken by the image.
    pub image: u64,
    /// The heap's size.
    pub heap: u64,
    /// Of the heap, in use.
    pub used: u64,
    /// The most that was ever in use.
    pub high_water: u64,
}

/// The block cache, in bytes, and its hits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cache {
    /// Room.
    pub total: u64,
    /// Filled.
    pub used: u64,
    /// Not yet on the disks.
    pub dirty: u64,
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads that needed a disk.
    pub misses: u64,
}

/// What a way of reading a disk comes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskSpeed {
    /// Bytes a command.
    pub bytes: usize,
    /// Commands in flight together.
    pub at_once: usize,
    /// Commands carried out.
    pub commands: u64,
    /// The time that took.
    pub microseconds: u64,
}

/// A thread and its stack.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// What it does: "idle", "running", "disk", ...
    pub state: String,
    /// Bytes of stack.
    pub stack: usize,
    /// The most that was ever used of it.
    pub stack_high_water: usize,
}

/// A client's connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Address and port of the client.
    pub peer: String,
    /// The Ethernet port it came in by.
    pub port: usize,
    /// The dialect, "3.1.1"; empty before it is negotiated.
    pub dialect: String,
    /// Who logged on; empty before.
    pub user: String,
    /// "signed", "encrypted", ...
    pub protection: String,
    /// Open handles.
    pub handles: usize,
}

/// A disk and what is on it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The channel.
    pub channel: usize,
    /// Manufacturer and model.
    pub model: String,
    /// Bytes; 0 when there is no disk.
    pub size: u64,
    /// "online", "no disk", "failed", ...
    pub state: String,
    /// Errors that the disk answered since the start.
    pub errors: u32,
    /// The volume on it, if there is one.
    pub volume: Option<VolumeUse>,
}

/// A mounted volume.
#[derive(Clone, Debug, Default)]
pub struct VolumeUse {
    /// Its index, as shares name it.
    pub index: usize,
    /// The label.
    pub label: String,
    /// "exFAT", "FAT32", ...
    pub file_system: String,
    /// Bytes in all.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
}

/// How a volume has grown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// Bytes in all before.
    pub before: u64,
    /// And now.
    pub after: u64,
    /// There is more room, but the file system cannot use it.
    pub limited: bool,
}

/// Two disks that hold the same.
#[derive(Clone, Debug, Default)]
pub struct Array {
    /// "good", "degraded", ..., or why it is not in use.
    pub state: String,
    /// Its volume is in use.
    pub running: bool,
    /// The disks.
    pub members: Vec<ArrayMember>,
    /// A disk is being brought up to date: parts done, of all.
    pub resync: Option<(u64, u64)>,
    /// Blocks of the good disk that could not be read for it.
    pub unreadable: u32,
    /// The disks are being compared: bytes done, of all.
    pub scrub: Option<(u64, u64)>,
    /// Blocks that differed in the last comparison, or the one that runs; `None` when there was none.
    pub differences: Option<u32>,
    /// Parts with writes in progress or not long ago.
    pub active: u32,
}

/// A disk of the array.
#[derive(Clone, Debug, Default)]
pub struct ArrayMember {
    /// The channel; `None` when the disk is not there.
    pub disk: Option<usize>,
    /// "good", "failed", ...
    pub state: String,
    /// Blocks that were repaired from the other disk since the start.
    pub repaired: u32,
}

/// What can be done with the array. Disks go by their channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayChange {
    /// Make a new one of all disks; what is on them is lost.
    Create(FileSystem),
    /// Put a disk in the place of the failed one, or beside a disk with a volume of its own.
    Add(usize),
    /// Go on without a disk.
    Fail(usize),
    /// Go on with this disk alone, whatever the other has.
    Choose(usize),
    /// Begin to compare the disks, or stop.
    Scrub(bool),
    /// Make each disk a volume of its own.
    Split,
}

/// An Ethernet port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Its number.
    pub index: usize,
    /// The chip.
    pub model: String,
    /// Station address.
    pub address: [u8; 6],
    /// Whether the link is up.
    pub link: bool,
    /// IP addresses with their prefix lengths, and where each is from: "10.0.2.15/24 (DHCP)".
    pub ip_addresses: Vec<String>,
    /// The default gateway; empty without.
    pub gateway: String,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames lost or with errors.
    pub errors: u64,
}

/// What `format` lays over a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFormat {
    /// The file system.
    pub file_system: FileSystem,
}

/// The file systems that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// exFAT.
    ExFat,
    /// FAT32.
    Fat32,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// May change the appliance.
    pub administrator: bool,
    /// May not log on.
    pub disabled: bool,
}

/// What somebody may do in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not connect.
    None,
    /// Read and list.
    Read,
    /// Everything.
    Write,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The name.
    pub name: String,
    /// Index of the volume.
    pub volume: usize,
    /// What every user may do.
    pub access: Access,
    /// What a guest may do.
    pub guest: Access,
    /// Users by name for whom it is different.
    pub exceptions: Vec<(String, Access)>,
    /// Not shown in lists.
    pub hidden: bool,
    /// Only for encrypted sessions.
    pub encrypted: bool,
    /// Shown beside the name.
    pub comment: String,
}

/// What the last crash left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Seconds the appliance had been up.
    pub uptime: u64,
    /// What was printed.
    pub text: String,
}
