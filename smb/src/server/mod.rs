//! The server: connections, sessions, trees, open files, and what each command does to them.

mod access;
mod apple;
mod backlog;
mod caching;
mod create;
mod credits;
mod directory;
mod directory_lease;
mod dispatch;
mod durable;
mod file;
mod information;
mod ioctl;
mod lease;
mod lock;
mod names;
mod negotiate;
mod notify;
mod pipe;
mod reply;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;

use alloc::sync::Arc;
use alloc::vec::Vec;

pub use access::ShareAccess;
pub use credits::MAXIMUM_CREDITS;
pub use reply::Reply;
pub use state::{Counters, HANDLE_SIZE, OPEN_FILE_SIZE, SESSION_SIZE};

use crate::ConnectionId;
use crate::arena::Id;
use crate::environment::{Environment, UserId, Volume};
use crate::wire::negotiate::Dialect;
use state::{Connection, ConnectionMarker, Share, State};

/// How a connection reached the server: a NetBIOS session's messages are shorter, so are its transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Port 445.
    Tcp,
    /// Port 139, after the NetBIOS session was set up.
    NetBios,
}

/// How large the tables are. All are made for a 32-bit machine with little memory; none grows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub connections: u32,
    /// Connections without a log-on; the oldest is dropped when one more comes.
    pub unauthenticated_connections: u32,
    /// Log-ons in progress.
    pub log_ons_in_progress: u32,
    /// Sessions.
    pub sessions: u32,
    /// Connections that sessions are bound to beside their first.
    pub channels: u32,
    /// Connected trees.
    pub trees: u32,
    /// Shares.
    pub shares: u32,
    /// Files in use.
    pub open_files: u32,
    /// Handles.
    pub handles: u32,
    /// Handles with a directory search, a lease, durability or the like.
    pub handle_extras: u32,
    /// Locked byte ranges.
    pub lock_ranges: u32,
    /// Requests that wait for a lock, a change or an oplock.
    pub waiting_requests: u32,
    /// Leases.
    pub leases: u32,
    /// Open named pipes.
    pub pipes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            unauthenticated_connections: 32,
            log_ons_in_progress: 64,
            sessions: 256,
            channels: 128,
            trees: 1024,
            shares: 64,
            open_files: 4096,
            handles: 8192,
            handle_extras: 2048,
            lock_ranges: 4096,
            waiting_requests: 512,
            leases: 2048,
            pipes: 64,
        }
    }
}

/// When messages are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Never: the capability is not offered.
    Off,
    /// When the client or a share wants it.
    Offered,
    /// Always: clients that can't are refused.
    Required,
}

/// A network port of the machine, as FSCTL_QUERY_NETWORK_INTERFACE_INFO tells clients of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Its number, not 0.
    pub index: u32,
    /// Its address.
    pub address: core::net::IpAddr,
    /// Bits a second.
    pub speed: u64,
}

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct ServerConfiguration {
    /// ServerGuid: stays the same for the life of the machine.
    pub guid: [u8; 16],
    /// The machine's NetBIOS name.
    pub name: Vec<u16>,
    /// Its workgroup.
    pub workgroup: Vec<u16>,
    /// The least dialect that is accepted.
    pub minimum_dialect: Dialect,
    /// The best dialect that is offered.
    pub maximum_dialect: Dialect,
    /// Whether every request of a user must be signed (or encrypted).
    pub signing_required: bool,
    /// Encryption.
    pub encryption: Encryption,
    /// Bytes of the largest READ, WRITE and transaction, where the dialect has multi-credit operations; a power of two.
    pub maximum_transfer: u32,
    /// Sizes of tables.
    pub limits: Limits,
}

impl ServerConfiguration {
    /// The secure default: SMB 2.0.2 and up (its signatures are those of 2.1), signing required, encryption where wanted, 1 MiB transfers.
    pub fn new(guid: [u8; 16]) -> ServerConfiguration {
        ServerConfiguration {
            guid,
            name: "NAS".encode_utf16().collect(),
            workgroup: "WORKGROUP".encode_utf16().collect(),
            minimum_dialect: Dialect::Smb202,
            maximum_dialect: Dialect::Smb311,
            signing_required: true,
            encryption: Encryption::Offered,
            maximum_transfer: 1 << 20,
            limits: Limits::default(),
        }
    }
}

impl ServerConfiguration {
    /// The three numbers of the machine's security identifier, S-1-5-21-a-b-c: as lasting as the GUID they are from.
    fn machine_identifier(&self) -> [u32; 3] {
        let mut numbers = [0; 3];
        for (number, bytes) in numbers.iter_mut().zip(self.guid.as_chunks::<4>().0) {
            *number = u32::from_le_bytes(*bytes);
        }
        numbers
    }
}

/// A share as it is added.
#[derive(Clone, Debug)]
pub struct ShareConfiguration<'a> {
    /// Its name, found without regard to case.
    pub name: &'a str,
    /// Its description.
    pub remark: &'a str,
    /// What users that are not listed may do.
    pub everyone: ShareAccess,
    /// What these users may do.
    pub users: &'a [(UserId, ShareAccess)],
    /// What somebody who did not log on (anonymous or guest) may do.
    pub guest: ShareAccess,
    /// Not shown in lists of shares.
    pub hidden: bool,
    /// Only encrypted requests are served.
    pub encrypt: bool,
}

/// Why a share was not added, or a connection not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// The table is full.
    Full,
    /// The name is taken, or is none.
    Name,
}

/// Whether a connection goes on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Yes.
    Continue,
    /// No: close it (replies that are queued may still be sent), then call [`Server::disconnect`].
    Disconnect,
}

/// How much is in use, for the console.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Connections.
    pub connections: u32,
    /// Sessions, those being set up included.
    pub sessions: u32,
    /// Trees.
    pub trees: u32,
    /// Files in use.
    pub open_files: u32,
    /// Handles.
    pub handles: u32,
    /// Locked ranges.
    pub locks: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Totals since the start.
    pub counters: Counters,
}

/// An SMB server. All methods take `&self`: several threads may be inside at once.
pub struct Server<E: Environment> {
    environment: E,
    configuration: ServerConfiguration,
    state: spin::Mutex<State<E::Volume>>,
}

/// The payload of this environment's volumes.
type PayloadOf<E> = <<E as Environment>::Volume as Volume>::Payload;
/// The nodes of this environment's volumes.
type NodeOf<E> = <<E as Environment>::Volume as Volume>::Node;

impl<E: Environment> Server<E> {
    /// A server with no share but IPC$.
    pub fn new(environment: E, configuration: ServerConfiguration) -> Server<E> {
        let mut state = State::new(&configuration.limits);
        // The table is empty and has room, unless it was configured to have none.
        let _ = state.shares.insert(Share {
            name: "IPC$".encode_utf16().collect(),
            remark: "IPC Service".encode_utf16().collect(),
            volume: None,
            everyone: ShareAccess::Write,
            users: Vec::new(),
            guest: ShareAccess::Write,
            hidden: true,
            encrypt: false,
        });
        Server { environment, configuration, state: spin::Mutex::new(state) }
    }

    /// What was passed to [`Server::new`].
    pub fn environment(&self) -> &E {
        &self.environment
    }

    /// What was passed to [`Server::new`].
    pub fn configuration(&self) -> &ServerConfiguration {
        &self.configuration
    }

    /// Adds a share that shows `volume`. Shares of one volume are to be given clones of one `Arc`, so that their opens
    /// see each other's share modes.
    ///
    /// # Errors
    /// The name is taken (case does not count) or empty, or the table is full.
    pub fn add_share(
        &self,
        share: &ShareConfiguration<'_>,
        volume: Arc<E::Volume>,
    ) -> Result<(), ServerError> {
        let name: Vec<u16> = share.name.encode_utf16().collect();
        let mut state = self.state.lock();
        if name.is_empty() || state.find_share(&name).is_some() {
            return Err(ServerError::Name);
        }
        let index = match state.volumes.iter().position(|known| Arc::ptr_eq(known, &volume)) {
            Some(index) => index,
            None => {
                state.volumes.push(volume);
                state.volumes.len() - 1
            }
        };
        let volume = Some(u16::try_from(index).map_err(|_| ServerError::Full)?);
        let entry = Share {
            name,
            remark: share.remark.encode_utf16().collect(),
            volume,
            everyone: share.everyone,
            users: share.users.to_vec(),
            guest: share.guest,
            hidden: share.hidden,
            encrypt: share.encrypt,
        };
        state.shares.insert(entry).map(|_| ()).map_err(|_| ServerError::Full)
    }

    /// Takes a share away; its trees answer STATUS_NETWORK_NAME_DELETED from now on, and their handles are closed.
    /// False when there is none of that name.
    pub fn remove_share(&self, name: &str) -> bool {
        let name: Vec<u16> = name.encode_utf16().collect();
        let trees: Vec<_> = {
            let mut state = self.state.lock();
            let Some(share) = state.find_share(&name) else { return false };
            if state.shares.get(share).is_none_or(|share| share.volume.is_none()) {
                return false;
            }
            state.shares.remove(share);
            state.trees.iter().filter(|(_, tree)| tree.share == share).map(|(id, _)| id).collect()
        };
        for tree in trees {
            self.close_tree(tree, false);
        }
        self.announce();
        true
    }

    /// A new connection. When the share of those that have not logged on is used up, the oldest of them is dropped:
    /// its `next_reply` gives nothing and [`Server::is_connected`] says no; `Environment::reply_ready` is called for
    /// it, so that its transport is closed.
    ///
    /// # Errors
    /// Every connection belongs to somebody, and the table is full.
    pub fn connect(&self, transport: Transport) -> Result<ConnectionId, ServerError> {
        let since = self.environment.monotonic_milliseconds();
        let (result, dropped) = {
            let mut state = self.state.lock();
            let anonymous = state.connections.iter().filter(|(_, connection)| connection.sessions == 0);
            let (count, oldest) = anonymous.fold((0, None), |(count, oldest), (id, connection)| {
                let older = oldest.is_none_or(|(_, since)| connection.since < since);
                (count + 1, if older { Some((id, connection.since)) } else { oldest })
            });
            let crowded =
                count >= self.configuration.limits.unauthenticated_connections || state.connections.is_full();
            let dropped = oldest.filter(|_| crowded).map(|(id, _)| id);
            if let Some(oldest) = dropped {
                // It has no session, so nothing hangs on it but a log-on in progress.
                state.remove_connection(oldest);
                state.counters.dropped_connections += 1;
            }
            (state.connections.insert(Connection::new(transport, since)), dropped)
        };
        if let Some(dropped) = dropped {
            self.abandon_setups(dropped.raw());
            self.environment.reply_ready(ConnectionId(dropped.raw()));
        }
        result.map(|id| ConnectionId(id.raw())).map_err(|_| ServerError::Full)
    }

    /// Says which ports the machine has, for clients that spread a session over several of them.
    pub fn set_interfaces(&self, interfaces: &[NetworkInterface]) {
        self.state.lock().interfaces = interfaces.to_vec();
    }

    /// Whether the connection is still one of the server's.
    pub fn is_connected(&self, connection: ConnectionId) -> bool {
        Id::from_raw(connection.0).is_some_and(|id| self.state.lock().connections.contains(id))
    }

    /// The transport is gone: ends the connection's sessions and closes what they had open.
    pub fn disconnect(&self, connection: ConnectionId) {
        self.end_connection(connection.0);
        self.announce();
    }

    /// Bytes of the longest message that is accepted from the connection now, the transport's header not counted.
    /// A longer one is to be answered by closing the connection. Strangers, who have not logged on and use no share, send
    /// none that is long.
    pub fn maximum_message(&self, connection: ConnectionId) -> usize {
        let state = self.state.lock();
        let entry = Id::from_raw(connection.0).and_then(|id| state.connections.get(id));
        let known = entry.is_some_and(|connection| connection.known && connection.sessions > 0);
        if known { self.configuration.maximum_transfer as usize + 0x1_0000 } else { 0x4000 }
    }

    /// The next answer for the connection's client, oldest first.
    pub fn next_reply(&self, connection: ConnectionId) -> Option<Reply<PayloadOf<E>>> {
        let id = Id::from_raw(connection.0)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = state.connections.get_mut(id)?;
        let reply = entry.replies.pop_front()?;
        entry.backlog = entry.backlog.saturating_sub(reply.wire_length());
        state.backlog = state.backlog.saturating_sub(reply.wire_length());
        Some(reply)
    }

    /// How much is in use.
    pub fn statistics(&self) -> Statistics {
        let state = self.state.lock();
        Statistics {
            connections: state.connections.len(),
            sessions: state.sessions.len(),
            trees: state.trees.len(),
            open_files: state.files.len(),
            handles: state.handles.len(),
            locks: state.locks.len(),
            waiting: state.waiting.len(),
            counters: state.counters,
        }
    }

    /// Tells the environment of replies queued since the last call. The state is not locked meanwhile.
    fn announce(&self) {
        loop {
            let Some(connection) = self.state.lock().ready.pop() else { return };
            self.environment.reply_ready(ConnectionId(connection.raw()));
        }
    }
}

impl<V: Volume> State<V> {
    /// The share of this name; ASCII case does not count, other letters are folded as the language does.
    fn find_share(&self, name: &[u16]) -> Option<Id<Share>> {
        self.shares.iter().find(|(_, share)| names::equal(&share.name, name)).map(|(id, _)| id)
    }

    /// Forgets a connection, and the answers that nobody will fetch.
    fn remove_connection(&mut self, id: Id<Connection<V::Payload>>) {
        if let Some(connection) = self.connections.remove(id) {
            self.backlog = self.backlog.saturating_sub(connection.backlog);
        }
    }

    /// Queues a reply and notes that the environment is to be told.
    fn queue(&mut self, connection: Id<ConnectionMarker>, reply: Reply<V::Payload>) {
        let Some(entry) = state::connection_id(connection).and_then(|id| self.connections.get_mut(id)) else {
            // Its client is gone.
            return;
        };
        entry.backlog += reply.wire_length();
        self.backlog += reply.wire_length();
        entry.replies.push_back(reply);
        if !self.ready.contains(&connection) {
            self.ready.push(connection);
        }
    }
}

impl From<crate::reader::Malformed> for crate::status::NtStatus {
    /// 3.3.5.2.6: a request that cannot be read is an invalid parameter.
    fn from(_: crate::reader::Malformed) -> Self {
        crate::status::NtStatus::INVALID_PARAMETER
    }
}
