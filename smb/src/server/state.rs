//! What the server remembers: arenas of a fixed size, one a kind, whose entries name each other by ids.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::access::ShareAccess;
use super::credits::Window;
use super::reply::Reply;
use super::waiting::Waiting;
use super::{Limits, Transport};
use crate::arena::{Arena, Full, Id};
use crate::crypto::{Cipher, PreauthenticationHash, SessionKeys, SigningAlgorithm, SigningKey};
use crate::environment::{UserId, Volume};
use crate::fscc::AccessMask;
use crate::wire::negotiate::Dialect;

/// Everything, behind the server's one lock.
pub(crate) struct State<V: Volume> {
    pub connections: Arena<Connection<V::Payload>>,
    pub setups: Arena<Setup>,
    pub channels: Arena<Channel>,
    /// The machine's ports, as clients are told of them.
    pub interfaces: Vec<super::NetworkInterface>,
    pub sessions: Arena<Session>,
    pub trees: Arena<Tree>,
    pub shares: Arena<Share>,
    pub volumes: Vec<Arc<V>>,
    pub files: Arena<OpenFile<V::Node>>,
    /// Heads of the lists of open files with one hash of (volume, file id).
    buckets: Vec<Option<Id<OpenFile<V::Node>>>>,
    pub handles: Arena<Handle<V::Node>>,
    pub extras: Arena<Extra>,
    pub locks: Arena<super::lock::LockRange<V::Node>>,
    pub waiting: Arena<Waiting<V::Node>>,
    /// How many requests were ever parked.
    pub parked: u64,
    pub leases: Arena<super::lease::Lease>,
    pub directory_leases: Vec<super::directory_lease::DirectoryLease>,
    pub pipes: Arena<super::pipe::OpenPipe>,
    /// Parked requests that can go on; the worker that finds them runs them.
    pub resumable: VecDeque<Id<Waiting<V::Node>>>,
    pub counters: Counters,
    /// Handles without a connection that are in somebody's way, to be closed.
    pub purge: Vec<Id<Handle<V::Node>>>,
    /// Handles that watch a directory.
    pub watches: u32,
    /// Connections with new replies that the environment has not been told of.
    pub ready: Vec<Id<ConnectionMarker>>,
    /// Bytes of the answers that wait on all connections.
    pub backlog: usize,
}

/// Running totals for the console.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Messages handled.
    pub requests: u32,
    /// Log-ons accepted.
    pub log_ons: u32,
    /// Log-ons denied.
    pub log_on_failures: u32,
    /// Connections dropped because of a malformed or forged message.
    pub protocol_errors: u32,
    /// Connections dropped to make room for others before they logged on.
    pub dropped_connections: u32,
}

const BUCKETS: usize = 256;

impl<V: Volume> State<V> {
    pub fn new(limits: &Limits) -> State<V> {
        State {
            connections: Arena::new(limits.connections),
            setups: Arena::new(limits.log_ons_in_progress),
            channels: Arena::new(limits.channels),
            interfaces: Vec::new(),
            sessions: Arena::new(limits.sessions),
            trees: Arena::new(limits.trees),
            shares: Arena::new(limits.shares),
            volumes: Vec::new(),
            files: Arena::new(limits.open_files),
            buckets: (0..BUCKETS).map(|_| None).collect(),
            handles: Arena::new(limits.handles),
            extras: Arena::new(limits.handle_extras),
            locks: Arena::new(limits.lock_ranges),
            waiting: Arena::new(limits.waiting_requests),
            parked: 0,
            leases: Arena::new(limits.leases),
            directory_leases: Vec::new(),
            pipes: Arena::new(limits.pipes),
            resumable: VecDeque::new(),
            counters: Counters::default(),
            watches: 0,
            purge: Vec::new(),
            ready: Vec::new(),
            backlog: 0,
        }
    }

    fn bucket(volume: u16, file_id: u64) -> usize {
        let mixed = (file_id ^ (u64::from(volume) << 48)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 56) as usize % BUCKETS
    }

    /// The open file that is node `file_id` of `volume`.
    pub fn find_file(&self, volume: u16, file_id: u64) -> Option<Id<OpenFile<V::Node>>> {
        let mut at = *self.buckets.get(Self::bucket(volume, file_id))?;
        while let Some(id) = at {
            let file = self.files.get(id)?;
            if file.file_id == file_id && file.volume == volume {
                return Some(id);
            }
            at = file.hash_next;
        }
        None
    }

    /// The open file that is node `file_id` of `volume`, made when it is not there yet.
    pub fn enter_file(
        &mut self,
        volume: u16,
        file_id: u64,
        node: V::Node,
        directory: bool,
    ) -> Result<Id<OpenFile<V::Node>>, Full> {
        if let Some(id) = self.find_file(volume, file_id) {
            return Ok(id);
        }
        let bucket = self.buckets.get_mut(Self::bucket(volume, file_id)).ok_or(Full)?;
        let id = self.files.insert(OpenFile {
            node,
            file_id,
            write_time: 0,
            change_time: 0,
            first_handle: None,
            hash_next: *bucket,
            locks: None,
            volume,
            flags: if directory { OpenFile::<V::Node>::DIRECTORY } else { 0 },
        })?;
        *bucket = Some(id);
        Ok(id)
    }

    /// Forgets an open file that no handle refers to any more.
    pub fn leave_file(&mut self, id: Id<OpenFile<V::Node>>) {
        let Some(file) = self.files.get(id) else { return };
        if file.first_handle.is_some() {
            return;
        }
        let next = file.hash_next;
        let Some(bucket) = self.buckets.get_mut(Self::bucket(file.volume, file.file_id)) else { return };
        if *bucket == Some(id) {
            *bucket = next;
        } else {
            let mut at = *bucket;
            while let Some(other) = at.and_then(|other| self.files.get_mut(other)) {
                if other.hash_next == Some(id) {
                    other.hash_next = next;
                    break;
                }
                at = other.hash_next;
            }
        }
        self.files.remove(id);
    }

    /// The handles of a file.
    pub fn handles_of(&self, file: Id<OpenFile<V::Node>>) -> HandlesOf<'_, V> {
        HandlesOf { state: self, at: self.files.get(file).and_then(|file| file.first_handle) }
    }

    /// Takes `handle` out of its file's list and the arena.
    pub fn remove_handle(&mut self, id: Id<Handle<V::Node>>) -> Option<Handle<V::Node>> {
        let handle = self.handles.remove(id)?;
        if let Some(file) = self.files.get_mut(handle.file) {
            if file.first_handle == Some(id) {
                file.first_handle = handle.next;
            } else {
                let mut at = file.first_handle;
                while let Some(other) = at.and_then(|other| self.handles.get_mut(other)) {
                    if other.next == Some(id) {
                        other.next = handle.next;
                        break;
                    }
                    at = other.next;
                }
            }
        }
        let mut lease = None;
        if let Some(extra) = handle.extra.and_then(|extra| self.extras.remove(extra)) {
            if extra.watch.is_some() {
                self.watches = self.watches.saturating_sub(1);
            }
            lease = extra.lease;
        }
        self.drop_caching(lease, handle.file);
        Some(handle)
    }

    /// The handle's extra record, made when it has none.
    pub fn extra_of(&mut self, id: Id<Handle<V::Node>>) -> Option<&mut Extra> {
        let handle = self.handles.get_mut(id)?;
        let extra = match handle.extra {
            Some(extra) => extra,
            None => {
                let extra = self.extras.insert(Extra::default()).ok()?;
                handle.extra = Some(extra);
                extra
            }
        };
        self.extras.get_mut(extra)
    }

    /// The session with the wire's id.
    pub fn find_session(&self, wire: u64) -> Option<(Id<Session>, &Session)> {
        let id = Id::from_raw(wire as u32)?;
        let session = self.sessions.get(id)?;
        (session.wire_id(id) == wire).then_some((id, session))
    }

    /// The tree with the wire's id, if it is of `session`.
    pub fn find_tree(&self, session: Id<Session>, wire: u32) -> Option<(Id<Tree>, &Tree)> {
        let id = Id::from_raw(wire)?;
        let tree = self.trees.get(id)?;
        (tree.session == session).then_some((id, tree))
    }
}

/// Walks the list of a file's handles.
pub(crate) struct HandlesOf<'a, V: Volume> {
    state: &'a State<V>,
    at: Option<Id<Handle<V::Node>>>,
}

impl<'a, V: Volume> Iterator for HandlesOf<'a, V> {
    type Item = (Id<Handle<V::Node>>, &'a Handle<V::Node>);

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.at?;
        let handle = self.state.handles.get(id)?;
        self.at = handle.next;
        Some((id, handle))
    }
}

/// One transport connection.
pub(crate) struct Connection<P> {
    pub transport: Transport,
    /// What was negotiated; `None` before.
    pub dialect: Option<Dialect>,
    /// An SMB1 negotiate was answered with the wildcard dialect: an SMB2 one follows.
    pub wildcard: bool,
    pub signing: SigningAlgorithm,
    pub cipher: Option<Cipher>,
    pub client_guid: [u8; 16],
    pub client_capabilities: u32,
    pub client_security_mode: u16,
    /// The dialects that the client offered, as VALIDATE_NEGOTIATE_INFO must repeat them; at most 16 are kept.
    pub offered: Vec<u16>,
    pub preauth: PreauthenticationHash,
    pub window: Window,
    pub replies: VecDeque<Reply<P>>,
    /// Bytes of them.
    pub backlog: usize,
    /// Sessions that were set up over it and stand.
    pub sessions: u16,
    /// A user logged on over it, or a guest uses a share: no stranger.
    pub known: bool,
    /// Milliseconds, when it was made.
    pub since: u64,
}

impl<P> Connection<P> {
    pub fn new(transport: Transport, since: u64) -> Connection<P> {
        Connection {
            transport,
            dialect: None,
            wildcard: false,
            signing: SigningAlgorithm::HmacSha256,
            cipher: None,
            client_guid: [0; 16],
            client_capabilities: 0,
            client_security_mode: 0,
            offered: Vec::new(),
            preauth: PreauthenticationHash::new(),
            window: Window::new(),
            replies: VecDeque::new(),
            backlog: 0,
            sessions: 0,
            known: false,
            since,
        }
    }
}

/// One log-on in progress (a leg of it may be running).
pub(crate) struct Setup {
    pub connection: Id<ConnectionMarker>,
    pub session: Id<Session>,
    pub preauth: PreauthenticationHash,
    pub purpose: SetupPurpose,
    /// A worker is inside the authenticator with it.
    pub busy: bool,
}

/// One more connection that a session is bound to (3.3.1.14).
pub(crate) struct Channel {
    pub session: Id<Session>,
    pub connection: Id<ConnectionMarker>,
    pub signing: SigningKey,
}

/// Connections are named by raw ids where their payload type would only be in the way.
pub(crate) struct ConnectionMarker;

/// The same id for the other type.
pub(crate) fn connection_id<P>(id: Id<ConnectionMarker>) -> Option<Id<Connection<P>>> {
    Id::from_raw(id.raw())
}

/// What a log-on is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetupPurpose {
    /// A new session.
    New,
    /// The same session's credentials anew.
    Again,
    /// One more channel for the session.
    Bind,
}

/// A log-on that stands or is being set up.
pub(crate) struct Session {
    /// Upper half of the session's id on the wire.
    pub nonce: u32,
    /// Its first (or only) connection; `None` once that is gone while others remain.
    pub connection: Option<Id<ConnectionMarker>>,
    pub user: UserId,
    pub flags: u8,
    pub dialect: Dialect,
    /// `None` until the log-on succeeds, and for nobody in particular.
    pub keys: Option<SessionKeys>,
    /// The next nonce of this side's encrypted messages.
    pub next_nonce: u64,
}

impl Session {
    /// The log-on succeeded.
    pub const VALID: u8 = 1;
    /// The user is nobody in particular.
    pub const ANONYMOUS: u8 = 2;
    /// Every message must be encrypted.
    pub const ENCRYPT: u8 = 4;
    /// The user may change the appliance.
    pub const ADMINISTRATOR: u8 = 8;
    /// Every request must be signed.
    pub const SIGN: u8 = 16;

    pub fn wire_id(&self, id: Id<Session>) -> u64 {
        (u64::from(self.nonce) << 32) | u64::from(id.raw())
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A share as an embedder described it.
pub(crate) struct Share {
    pub name: Vec<u16>,
    pub remark: Vec<u16>,
    /// Index of its volume; `None` for IPC$.
    pub volume: Option<u16>,
    pub everyone: ShareAccess,
    pub users: Vec<(UserId, ShareAccess)>,
    pub guest: ShareAccess,
    pub hidden: bool,
    pub encrypt: bool,
}

impl Share {
    /// What `user` may do with it.
    pub fn access(&self, user: UserId) -> ShareAccess {
        self.users.iter().find(|entry| entry.0 == user).map_or(self.everyone, |entry| entry.1)
    }
}

/// A share connected by a session.
pub(crate) struct Tree {
    pub session: Id<Session>,
    pub share: Id<Share>,
    pub volume: Option<u16>,
    pub access: ShareAccess,
    pub encrypt: bool,
}

/// One file or directory in use, shared by its handles.
pub(crate) struct OpenFile<N> {
    pub node: N,
    pub file_id: u64,
    /// The time of the last write that the volume has not been told, or 0.
    pub write_time: u64,
    /// A change time that a client set, or 0: volumes keep none, so it lasts as long as the file is open.
    pub change_time: u64,
    pub first_handle: Option<Id<Handle<N>>>,
    pub hash_next: Option<Id<OpenFile<N>>>,
    /// Its byte-range locks, in a list.
    pub locks: Option<Id<super::lock::LockRange<N>>>,
    pub volume: u16,
    pub flags: u16,
}

impl<N> OpenFile<N> {
    /// It is a directory.
    pub const DIRECTORY: u16 = 1;
    /// It goes away with its last handle; it can't be opened any more.
    pub const DELETE_PENDING: u16 = 2;
    /// Its last handle is closed and a worker is removing it.
    pub const REMOVING: u16 = 4;

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u16, value: bool) {
        if value {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

/// One open of a file.
pub(crate) struct Handle<N> {
    pub file: Id<OpenFile<N>>,
    /// `None` while it outlives its connection (durable).
    pub tree: Option<Id<Tree>>,
    pub next: Option<Id<Handle<N>>>,
    /// What few handles need.
    pub extra: Option<Id<Extra>>,
    /// Granted rights, share modes and flags in one word: see the constants.
    pub bits: u32,
}

impl<N> Handle<N> {
    const RIGHTS: u32 = 0x011F_01FF;
    const SHARE_SHIFT: u32 = 9;
    /// To be deleted when this handle is closed.
    pub const DELETE_ON_CLOSE: u32 = 1 << 12;
    /// Every write goes to disk before its answer.
    pub const WRITE_THROUGH: u32 = 1 << 13;
    /// Data was written through it since the last write time was stored.
    pub const WRITTEN: u32 = 1 << 14;
    /// Its client set the last write time itself: later writes leave it alone.
    pub const WRITE_TIME_SET: u32 = 1 << 15;
    /// FILE_SEQUENTIAL_ONLY.
    pub const SEQUENTIAL: u32 = 1 << 21;
    /// FILE_NO_INTERMEDIATE_BUFFERING.
    pub const UNBUFFERED: u32 = 1 << 22;
    /// FILE_SYNCHRONOUS_IO_ALERT.
    pub const SYNCHRONOUS_ALERT: u32 = 1 << 23;
    /// FILE_SYNCHRONOUS_IO_NONALERT.
    pub const SYNCHRONOUS: u32 = 1 << 25;
    const OPLOCK_SHIFT: u32 = 26;
    /// An oplock break of it is not acknowledged yet.
    pub const BREAKING: u32 = 1 << 29;
    /// A break to level II (else to none) was sent.
    pub const BREAKING_TO_II: u32 = 1 << 30;
    /// Holds a lease: the extra record says which.
    pub const LEASED: u32 = 1 << 31;

    pub fn new(file: Id<OpenFile<N>>, tree: Id<Tree>, access: AccessMask, share: u32) -> Handle<N> {
        Handle {
            file,
            tree: Some(tree),
            next: None,
            extra: None,
            bits: (access.bits() & Self::RIGHTS) | ((share & 7) << Self::SHARE_SHIFT),
        }
    }

    /// The rights it was granted.
    pub fn access(&self) -> AccessMask {
        AccessMask::from_bits_retain(self.bits & Self::RIGHTS)
    }

    /// FILE_SHARE_READ, WRITE, DELETE as bits 0, 1, 2.
    pub fn share(&self) -> u32 {
        (self.bits >> Self::SHARE_SHIFT) & 7
    }

    pub fn has(&self, flag: u32) -> bool {
        self.bits & flag != 0
    }

    pub fn set(&mut self, flag: u32, value: bool) {
        if value {
            self.bits |= flag;
        } else {
            self.bits &= !flag;
        }
    }

    /// 0 none, 1 level II, 2 exclusive, 3 batch.
    pub fn oplock(&self) -> u32 {
        (self.bits >> Self::OPLOCK_SHIFT) & 3
    }

    pub fn set_oplock(&mut self, level: u32) {
        self.bits = (self.bits & !(3 << Self::OPLOCK_SHIFT)) | ((level & 3) << Self::OPLOCK_SHIFT);
    }
}

/// What few handles need: a directory search, a position, durability.
#[derive(Default)]
pub(crate) struct Extra {
    pub search: Option<super::directory::Search>,
    pub position: u64,
    /// The lease that the handle is under.
    pub lease: Option<Id<super::lease::Lease>>,
    /// Bytes that the client wants to be there for the file. They are not taken from others; what is free was enough.
    pub allocation: u64,
    /// ChannelSequence of the newest request that used the handle (3.3.5.2.10).
    pub channel_sequence: u16,
    /// Lock sequence numbers that were answered, by index from 1 on (MS-SMB2 3.3.1.10); 0xFF for none.
    pub lock_sequences: Vec<u8>,
    /// Durability was asked for.
    pub durable: Option<alloc::boxed::Box<super::durable::Durable>>,
    /// CHANGE_NOTIFY was asked for.
    pub watch: Option<alloc::boxed::Box<super::notify::Watch>>,
}

/// Bytes of a session, asserted to be at most 300 on the board.
pub const SESSION_SIZE: usize = size_of::<Session>();
/// Bytes of an open file with an 8-byte node, asserted to be below 100 on the board.
pub const OPEN_FILE_SIZE: usize = size_of::<OpenFile<u64>>();
/// Bytes of an open handle, asserted to be at most 24.
pub const HANDLE_SIZE: usize = size_of::<Handle<u64>>();

const _: () = assert!(SESSION_SIZE <= 300);
const _: () = assert!(OPEN_FILE_SIZE < 100);
const _: () = assert!(HANDLE_SIZE <= 24);
