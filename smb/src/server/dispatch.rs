//! From a message to its answer: decryption, the elements of a compound, the checks that every request passes
//! (MS-SMB2 3.3.5.2), and the call of the command's handler.

use super::reply::{Draft, Protection};
use super::state::{Channel, ConnectionMarker, Session, Setup, State, Tree, connection_id};
use super::waiting::WaitKind;
use super::{Disposition, Encryption, PayloadOf, Server, access};
use crate::ConnectionId;
use crate::arena::Id;
use crate::crypto::{SigningKey, TRANSFORM_HEADER_SIZE, TransformHeader};
use crate::environment::{Environment, Volume};
use crate::reader::{Reader, Writer};
use crate::status::NtStatus;
use crate::wire::header::{
    Command, Flags, HEADER_LENGTH, Header, PROTOCOL_ID, SMB1_PROTOCOL_ID, TRANSFORM_PROTOCOL_ID,
};
use crate::wire::negotiate::Dialect;
use crate::wire::{self, FileId};

/// One request while it is handled.
pub(crate) struct Request<'a> {
    pub connection: Id<ConnectionMarker>,
    /// Its header; what handlers set here (session, tree) goes into the response's.
    pub header: Header,
    /// The element, header included, padding not taken off.
    pub message: &'a [u8],
    /// `None` before NEGOTIATE.
    pub dialect: Option<Dialect>,
    pub session: Option<Id<Session>>,
    pub tree: Option<Id<Tree>>,
    /// The tree has pipes and not files.
    pub on_pipes: bool,
    /// The file of the element before, for related requests.
    pub previous_file: Option<FileId>,
    /// The file that the request turned out to mean.
    pub used_file: core::cell::Cell<Option<FileId>>,
    /// No element follows in the compound.
    pub last: bool,
    /// The element and all that follow.
    pub rest: &'a [u8],
    /// It was parked before: the number it waits under.
    pub resumed: Option<u32>,
    /// What the elements before left, kept for the case that it is parked.
    pub before: Before,
    pub encrypted: bool,
    /// Signs the response.
    pub sign_with: Option<SigningKey>,
    /// Which preauthentication hash the response goes into.
    pub hash: HashReply,
}

/// Which preauthentication hash a response goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashReply {
    /// None.
    No,
    /// The connection's.
    Connection,
    /// That of a log-on in progress.
    Setup(Id<Setup>),
}

impl core::fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Setup").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Request<'_> {
    /// 3.3.5.2.5: a payload of `length` bytes costs one credit for each 64 KiB begun.
    pub fn check_charge(&self, length: u32) -> Result<(), NtStatus> {
        let paid = match self.dialect {
            Some(dialect) if dialect > Dialect::Smb202 => u64::from(self.header.charge()),
            // Without multi-credit operations 64 KiB is all there is.
            _ => 1,
        };
        if u64::from(length) > paid * 0x1_0000 { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) }
    }

    /// The number of channel failures that the client has seen; 0 before SMB 3, which has none.
    pub fn channel_sequence(&self) -> u16 {
        if self.dialect >= Some(Dialect::Smb300) { self.header.status as u16 } else { 0 }
    }

    /// The file that the request names, or that the element before it did.
    pub fn file(&self, named: FileId) -> FileId {
        if self.header.flags.contains(Flags::RELATED)
            && let Some(previous) = self.previous_file
        {
            return previous;
        }
        named
    }
}

/// What a handler came to. An `Err(status)` makes an error response.
pub(crate) enum Outcome<P> {
    /// The body is in place.
    Done(NtStatus),
    /// The body is in place, and this is its data.
    Data(P),
    /// An error response with this data in it.
    ErrorData(NtStatus, alloc::vec::Vec<u8>),
    /// The answer comes later, or never.
    Silent,
    /// The request and all that follow in its compound will be handled once more.
    Parked,
    /// The connection must be closed.
    Disconnect,
}

/// What a handler returns.
pub(crate) type Handled<P> = Result<Outcome<P>, NtStatus>;

/// What related elements take over from the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    session: u64,
    tree: u32,
    file: Option<FileId>,
    /// Why there is no file, when the element that should have named one failed.
    failed: Option<NtStatus>,
    /// There was an element, and its session is one.
    any: bool,
}

/// What handling an element says about the message.
enum Step {
    /// On to the next; the response goes into this hash.
    Next(HashReply),
    /// The rest waits.
    Stop,
    /// The connection must be closed.
    Disconnect,
}

/// Why a request does not reach its handler.
enum Rejection {
    /// It is answered with this.
    Status(NtStatus),
    /// Its signature is wrong, or missing where there must be one: it is none of the session's client.
    Forged,
}

impl From<NtStatus> for Rejection {
    fn from(status: NtStatus) -> Rejection {
        Rejection::Status(status)
    }
}

/// What encrypts the answer to an encrypted message.
struct Sealed {
    session: u64,
    protection: Protection,
}

impl<E: Environment> Server<E> {
    /// Handles one message (without the transport's header), which is changed in place when it is encrypted. Blocks
    /// while the volume or the authenticator does. Answers are queued.
    pub fn handle(&self, connection: ConnectionId, message: &mut [u8]) -> Disposition {
        let Some(id) = Id::from_raw(connection.0) else { return Disposition::Disconnect };
        let disposition = match message.first_chunk::<4>() {
            Some(&PROTOCOL_ID) => self.compound(id, message, None, Before::default(), None),
            Some(&TRANSFORM_PROTOCOL_ID) => match self.open_transform(message) {
                Some((sealed, inside)) => self.compound(id, inside, Some(sealed), Before::default(), None),
                None => Disposition::Disconnect,
            },
            Some(&SMB1_PROTOCOL_ID) => self.negotiate_multi_protocol(id, message),
            _ => Disposition::Disconnect,
        };
        if disposition == Disposition::Disconnect {
            self.state.lock().counters.protocol_errors += 1;
        }
        self.resume();
        self.announce();
        disposition
    }

    /// Decrypts a message in place (3.3.5.2.1).
    fn open_transform<'a>(&self, message: &'a mut [u8]) -> Option<(Sealed, &'a mut [u8])> {
        let header = TransformHeader::parse(&mut Reader::new(message)).ok()?;
        if header.flags != TransformHeader::ENCRYPTED {
            return None;
        }
        let inside = message.get_mut(TRANSFORM_HEADER_SIZE..)?;
        let (key, protection) = {
            let mut state = self.state.lock();
            let (id, session) = state.find_session(header.session)?;
            let key = session.keys.as_ref()?.decryption.clone()?;
            (key, state.protection(id)?)
        };
        key.open(&header, inside).ok()?;
        Some((Sealed { session: header.session, protection }, inside))
    }

    /// Handles the elements of a message one after the other.
    fn compound(
        &self,
        connection: Id<ConnectionMarker>,
        message: &[u8],
        sealed: Option<Sealed>,
        mut before: Before,
        mut resumed: Option<u32>,
    ) -> Disposition {
        let mut draft = Draft::new();
        let mut hash = HashReply::No;
        let mut rest = message;
        let mut disposition = Disposition::Continue;
        loop {
            let Ok(header) = Header::parse(rest) else {
                disposition = Disposition::Disconnect;
                break;
            };
            let next = header.next as usize;
            if header.flags.contains(Flags::RESPONSE)
                || (next != 0 && (next < HEADER_LENGTH || !next.is_multiple_of(8) || next >= rest.len()))
            {
                disposition = Disposition::Disconnect;
                break;
            }
            let (element, following) = if next == 0 { (rest, &[][..]) } else { rest.split_at(next) };
            let request = Request {
                connection,
                header,
                message: element,
                dialect: None,
                session: None,
                tree: None,
                on_pipes: false,
                previous_file: None,
                used_file: core::cell::Cell::new(None),
                last: following.is_empty(),
                rest,
                resumed: resumed.take(),
                before,
                encrypted: sealed.is_some(),
                sign_with: None,
                hash: HashReply::No,
            };
            if sealed.as_ref().is_some_and(|sealed| {
                header.session_id != sealed.session && !header.flags.contains(Flags::RELATED)
            }) {
                disposition = Disposition::Disconnect;
                break;
            }
            match self.element(request, &mut before, &mut draft) {
                Step::Next(reply_hash) => hash = reply_hash,
                Step::Stop => break,
                Step::Disconnect => {
                    disposition = Disposition::Disconnect;
                    break;
                }
            }
            if following.is_empty() {
                break;
            }
            rest = following;
        }
        if !draft.is_empty() {
            let reply = draft.finish(sealed.map(|sealed| sealed.protection).unwrap_or_default());
            let mut state = self.state.lock();
            state.counters.requests = state.counters.requests.wrapping_add(1);
            match hash {
                HashReply::No => {}
                HashReply::Connection => {
                    if let Some(entry) =
                        connection_id(connection).and_then(|id| state.connections.get_mut(id))
                    {
                        entry.preauth.update(reply.head());
                    }
                }
                HashReply::Setup(setup) => {
                    if let Some(setup) = state.setups.get_mut(setup) {
                        setup.preauth.update(reply.head());
                    }
                }
            }
            state.queue(connection, reply);
        }
        disposition
    }

    /// Handles one element and appends its response.
    fn element(
        &self,
        mut request: Request<'_>,
        before: &mut Before,
        draft: &mut Draft<PayloadOf<E>>,
    ) -> Step {
        let command = Command::from_number(request.header.command);
        {
            let mut state = self.state.lock();
            let Some(connection) =
                connection_id(request.connection).and_then(|id| state.connections.get_mut(id))
            else {
                return Step::Disconnect;
            };
            request.dialect = connection.dialect;
            let charge = match connection.dialect {
                Some(dialect) if dialect > Dialect::Smb202 => request.header.charge(),
                _ => 1,
            };
            // 3.3.5.2.3; CANCEL uses the number of the request that it cancels.
            if command != Some(Command::Cancel)
                && request.resumed.is_none()
                && !connection.window.take(request.header.message_id, charge)
            {
                return Step::Disconnect;
            }
            // Nothing but NEGOTIATE before a dialect is chosen.
            if connection.dialect.is_none() && command != Some(Command::Negotiate) {
                return Step::Disconnect;
            }
        }
        let related = request.header.flags.contains(Flags::RELATED);
        if related && before.any {
            request.header.session_id = before.session;
            request.header.tree_or_asynchronous = u64::from(before.tree) << 32;
            request.previous_file = before.file;
        }
        let admitted = self.admit(&mut request, command);
        let forged = matches!(admitted, Err(Rejection::Forged));
        if command == Some(Command::Cancel) {
            if forged {
                return Step::Disconnect;
            }
            self.cancel(request.connection, &request.header);
            return Step::Next(HashReply::No);
        }
        draft.begin();
        let result = match (admitted, command) {
            (Err(Rejection::Forged), _) => Err(NtStatus::ACCESS_DENIED),
            (_, None) => Err(NtStatus::INVALID_PARAMETER),
            _ if related && !before.any => Err(NtStatus::INVALID_PARAMETER),
            (Err(Rejection::Status(status)), _) => Err(status),
            (Ok(()), Some(command)) => match (related, before.file, before.failed) {
                (true, None, Some(failed)) if uses_file(command) => Err(failed),
                _ => self
                    .has_memory_for(request.connection, command, draft.length())
                    .and_then(|()| self.execute(&mut request, command, draft, before)),
            },
        };
        let status = match result {
            Ok(Outcome::Done(status)) => status,
            Ok(Outcome::Data(payload)) => {
                draft.set_payload(payload);
                NtStatus::SUCCESS
            }
            Ok(Outcome::ErrorData(status, data)) => {
                draft.clear_body();
                wire::error::emit(&mut Writer::new(draft.out()), request.dialect, &data);
                status
            }
            Ok(Outcome::Silent) => {
                before.any = true;
                return Step::Next(HashReply::No);
            }
            Ok(Outcome::Parked) => return Step::Stop,
            Ok(Outcome::Disconnect) => return Step::Disconnect,
            Err(status) => {
                draft.clear_body();
                wire::error::emit(&mut Writer::new(draft.out()), request.dialect, &[]);
                status
            }
        };
        log::trace!("{command:?} {} answers {status:?}", request.header.message_id);
        if !related {
            // 3.3.5.2.7.2: what is related to an element without a session is invalid.
            before.any = status != NtStatus::USER_SESSION_DELETED;
        }
        before.session = request.header.session_id;
        before.tree = request.header.tree_id();
        if command == Some(Command::Create) && status.is_error() {
            before.file = None;
            before.failed = Some(status);
        } else if let Some(used) = request.used_file.take() {
            before.file = Some(used);
            before.failed = None;
        } else if !related && status.is_error() && command.is_some_and(uses_file) {
            before.file = None;
            before.failed = Some(status);
        }
        let mut header = request.header;
        header.status = status.0;
        let mut kept = Flags::RELATED | Flags::PRIORITY;
        if status == NtStatus::USER_SESSION_DELETED
            || (command == Some(Command::SessionSetup) && status.is_error())
        {
            // There is no key, but who signed wants the flag: with these a client looks at the status alone.
            kept |= Flags::SIGNED;
        }
        header.flags &= kept;
        match request.resumed {
            Some(number) => {
                // The interim answer granted the credits and named the request.
                header.credits = 0;
                header.flags |= Flags::ASYNCHRONOUS;
                header.tree_or_asynchronous = u64::from(number);
                if let Some(id) = Id::from_raw(number) {
                    self.state.lock().waiting.remove(id);
                }
            }
            None => {
                header.credits = self.state.lock().grant_credits(request.connection, header.credits);
            }
        }
        header.next = 0;
        header.signature = [0; 16];
        draft.end(header, request.sign_with.filter(|_| !request.encrypted));
        // 3.3.5.2.4 leaves it open whether the connection ends. Somebody is at work in the middle of it: it does.
        if forged { Step::Disconnect } else { Step::Next(request.hash) }
    }

    /// The checks before a handler: session, signature, encryption, tree (3.3.5.2.4, 3.3.5.2.9, 3.3.5.2.11). A command
    /// that there is not needs nothing, but its signature is looked at as well.
    fn admit(&self, request: &mut Request<'_>, command: Option<Command>) -> Result<(), Rejection> {
        let mut needs = command.map_or(access::NOTHING, access::command);
        // On a connection that it is not on yet, a session's signature may be wrong without harm to anybody.
        let mut own = true;
        let log_on = command == Some(Command::SessionSetup);
        let signed = request.header.flags.contains(Flags::SIGNED);
        // 3.3.5.17: a session that an ECHO names must be there.
        let names_session = signed || (!request.encrypted && request.header.session_id != 0);
        needs.session |= command == Some(Command::Echo) && names_session;
        let (key, first_key);
        {
            let state = self.state.lock();
            let found = state.find_session(request.header.session_id);
            let found = found.filter(|(id, _)| {
                own = state.is_on(*id, request.connection);
                own || log_on
            });
            let Some((id, session)) = found else {
                if needs.session {
                    return Err(NtStatus::USER_SESSION_DELETED.into());
                }
                return Ok(());
            };
            if !session.has(Session::VALID) {
                if needs.session {
                    return Err(NtStatus::USER_SESSION_DELETED.into());
                }
                request.session = Some(id);
                return Ok(());
            }
            request.session = Some(id);
            key = state.signing_key(id, request.connection);
            first_key = session.keys.as_ref().filter(|_| log_on).map(|keys| keys.signing.clone());
            if !request.encrypted {
                if session.has(Session::ENCRYPT) && needs.session {
                    return Err(NtStatus::ACCESS_DENIED.into());
                }
                if !signed && session.has(Session::SIGN) && needs.session {
                    request.session = None;
                    return Err(Rejection::Forged);
                }
                // New credentials for a session are signed with its key, too.
                if !signed && session.has(Session::SIGN) && log_on && own {
                    request.session = None;
                    return Err(NtStatus::ACCESS_DENIED.into());
                }
            }
        }
        // A signature is checked where there is a key for it: not on the first legs of a log-on.
        if signed
            && !request.encrypted
            && let Some(key) = key
        {
            if key.verify(request.message).is_err() {
                log::warn!("a request's signature is wrong");
                request.session = None;
                // A client may not know yet that the connection is bound to its session: it uses the first channel's key.
                let early = first_key.is_some_and(|key| key.verify(request.message).is_ok());
                return Err(if own && !early { Rejection::Forged } else { NtStatus::ACCESS_DENIED.into() });
            }
            request.sign_with = Some(key);
        }
        // Only now, so that an answer about the tree is signed.
        if needs.tree {
            let state = self.state.lock();
            let session = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
            let Some((tree, entry)) = state.find_tree(session, request.header.tree_id()) else {
                return Err(NtStatus::NETWORK_NAME_DELETED.into());
            };
            if !state.shares.contains(entry.share) {
                return Err(NtStatus::NETWORK_NAME_DELETED.into());
            }
            if entry.encrypt && !request.encrypted {
                return Err(NtStatus::ACCESS_DENIED.into());
            }
            if entry.volume.is_none() && !needs.on_pipes {
                return Err(NtStatus::INVALID_DEVICE_REQUEST.into());
            }
            request.tree = Some(tree);
            request.on_pipes = entry.volume.is_none();
        }
        Ok(())
    }

    fn execute(
        &self,
        request: &mut Request<'_>,
        command: Command,
        draft: &mut Draft<PayloadOf<E>>,
        before: &mut Before,
    ) -> Handled<PayloadOf<E>> {
        let mut writer = Writer::with_origin(draft.out(), 0);
        match command {
            Command::Negotiate => self.negotiate(request, &mut writer),
            Command::SessionSetup => self.session_setup(request, &mut writer),
            Command::Logoff => self.logoff(request, &mut writer),
            Command::TreeConnect => self.tree_connect(request, &mut writer),
            Command::TreeDisconnect => self.tree_disconnect(request, &mut writer),
            Command::Create => {
                let (file, outcome) = self.create(request, &mut writer)?;
                before.file = file;
                before.failed = None;
                Ok(outcome)
            }
            Command::Close => self.close(request, &mut writer),
            Command::Flush => self.flush(request, &mut writer),
            Command::Read => self.read(request, &mut writer),
            Command::Write => self.write(request, &mut writer),
            Command::Lock => self.lock(request, &mut writer),
            Command::Ioctl => self.ioctl(request, &mut writer),
            Command::Echo => {
                wire::simple::parse(request.message)?;
                wire::simple::emit(&mut writer);
                Ok(Outcome::Done(NtStatus::SUCCESS))
            }
            Command::Cancel => Ok(Outcome::Silent),
            Command::QueryDirectory => self.query_directory(request, &mut writer),
            Command::ChangeNotify => self.change_notify(request, writer.nested()),
            Command::QueryInfo => self.query_info(request, &mut writer),
            Command::SetInfo => self.set_info(request, &mut writer),
            Command::OplockBreak => self.acknowledge(request, &mut writer),
        }
    }

    /// Runs parked requests that can go on.
    pub(super) fn resume(&self) {
        loop {
            let (id, connection, message, before, sealed) = {
                let mut state = self.state.lock();
                let state = &mut *state;
                let Some(id) = state.resumable.pop_front() else { return };
                // It may have been cancelled.
                let Some(waiting) = state.waiting.get_mut(id) else { continue };
                let WaitKind::Again(again) = &mut waiting.kind else { continue };
                let (message, before) = (core::mem::take(&mut again.message), again.before);
                let (connection, session, encrypted) =
                    (waiting.connection, waiting.session, waiting.encrypted);
                let wire = state.sessions.get(session).map(|entry| entry.wire_id(session));
                let sealed = if encrypted {
                    match (wire, state.protection(session)) {
                        (Some(session), Some(protection)) => Some(Sealed { session, protection }),
                        _ => {
                            state.waiting.remove(id);
                            continue;
                        }
                    }
                } else {
                    None
                };
                (id, connection, message, before, sealed)
            };
            let disposition = self.compound(connection, &message, sealed, before, Some(id.raw()));
            if disposition == Disposition::Disconnect {
                self.end_connection(connection.raw());
            }
        }
    }

    /// Whether encryption is offered to a client.
    pub(super) fn encrypts(&self) -> bool {
        self.configuration.encryption != Encryption::Off
    }
}

/// Whether a command names a file.
fn uses_file(command: Command) -> bool {
    matches!(
        command,
        Command::Close
            | Command::Flush
            | Command::Read
            | Command::Write
            | Command::Lock
            | Command::Ioctl
            | Command::QueryDirectory
            | Command::ChangeNotify
            | Command::QueryInfo
            | Command::SetInfo
    )
}

impl<V: Volume> State<V> {
    /// Grants credits to a connection's client.
    pub fn grant_credits(&mut self, connection: Id<ConnectionMarker>, asked: u16) -> u16 {
        let Some(connection) = connection_id(connection).and_then(|id| self.connections.get_mut(id)) else {
            return 0;
        };
        // Before a log-on stands a client needs few.
        let limit = if connection.sessions > 0 { u16::MAX } else { 32 };
        connection.window.grant(asked, limit)
    }

    /// Whether the session may be used on this connection: its first, or one bound to it.
    pub fn is_on(&self, session: Id<Session>, connection: Id<ConnectionMarker>) -> bool {
        self.sessions.get(session).is_some_and(|session| session.connection == Some(connection))
            || self.channel(session, connection).is_some()
    }

    /// The session's binding to a connection that is not its first.
    pub fn channel(&self, session: Id<Session>, connection: Id<ConnectionMarker>) -> Option<Id<Channel>> {
        self.channels
            .iter()
            .find(|(_, channel)| channel.session == session && channel.connection == connection)
            .map(|(id, _)| id)
    }

    /// A connection of the session that stands.
    pub fn connection_of(&self, session: Id<Session>) -> Option<Id<ConnectionMarker>> {
        self.sessions.get(session)?.connection.or_else(|| {
            let mut channels = self.channels.iter().map(|(_, channel)| channel);
            channels.find(|channel| channel.session == session).map(|channel| channel.connection)
        })
    }

    /// What signs the session's messages on this connection; on one that is still to be bound, the session's own key.
    pub fn signing_key(&self, session: Id<Session>, connection: Id<ConnectionMarker>) -> Option<SigningKey> {
        let entry = self.sessions.get(session)?;
        if entry.connection != Some(connection)
            && let Some(channel) = self.channel(session, connection).and_then(|id| self.channels.get(id))
        {
            return Some(channel.signing.clone());
        }
        Some(entry.keys.as_ref()?.signing.clone())
    }

    /// What encrypts the next message to the session's client.
    pub fn protection(&mut self, id: Id<Session>) -> Option<Protection> {
        let session = self.sessions.get_mut(id)?;
        let wire = session.wire_id(id);
        let key = session.keys.as_ref()?.encryption.clone()?;
        let nonce = session.next_nonce;
        session.next_nonce = nonce.checked_add(1)?;
        Some(Protection { seal: Some((key, nonce, wire)) })
    }
}
