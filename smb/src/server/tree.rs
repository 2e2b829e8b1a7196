//! TREE_CONNECT and TREE_DISCONNECT (MS-SMB2 3.3.5.7, 3.3.5.8).

use alloc::vec::Vec;

use super::access::ShareAccess;
use super::dispatch::{Handled, Outcome, Request};
use super::state::{Session, Tree, connection_id};
use super::{PayloadOf, Server};
use crate::arena::Id;
use crate::environment::Environment;
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire;
use crate::wire::tree_connect::{self, SHARE_DISK, SHARE_FLAG_ENCRYPT_DATA, SHARE_PIPE};

impl<E: Environment> Server<E> {
    pub(super) fn tree_connect(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = tree_connect::Request::parse(request.message)?;
        let session_id = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
        let mut state = self.state.lock();
        let session = state.sessions.get(session_id).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let (user, anonymous, ciphered) = (
            session.user,
            session.has(Session::ANONYMOUS),
            session.keys.as_ref().is_some_and(|keys| keys.encryption.is_some()),
        );
        let share_id = state.find_share(parsed.share()).ok_or(NtStatus::BAD_NETWORK_NAME)?;
        let share = state.shares.get(share_id).ok_or(NtStatus::BAD_NETWORK_NAME)?;
        let access = if anonymous { share.guest } else { share.access(user) };
        if access == ShareAccess::None {
            return Err(NtStatus::ACCESS_DENIED);
        }
        // 3.3.5.7: a share that wants encryption refuses who can't.
        if share.encrypt && !ciphered {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let (volume, encrypt) = (share.volume, share.encrypt);
        let tree = Tree { session: session_id, share: share_id, volume, access, encrypt };
        let id = state.trees.insert(tree).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        if volume.is_some()
            && let Some(connection) =
                connection_id(request.connection).and_then(|id| state.connections.get_mut(id))
        {
            connection.known = true;
        }
        request.header.tree_or_asynchronous = u64::from(id.raw()) << 32;
        tree_connect::Response {
            share_type: if volume.is_some() { SHARE_DISK } else { SHARE_PIPE },
            share_flags: if encrypt { SHARE_FLAG_ENCRYPT_DATA } else { 0 },
            capabilities: 0,
            maximal_access: access.maximal().bits(),
        }
        .emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    pub(super) fn tree_disconnect(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        wire::simple::parse(request.message)?;
        let tree = request.tree.ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        self.close_tree(tree, false);
        wire::simple::emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// Closes what a tree has open, and the tree. With `keep`, durable handles stay for their client to come back.
    pub(super) fn close_tree(&self, tree: Id<Tree>, keep: bool) {
        let now = self.environment.monotonic_milliseconds();
        let handles: Vec<_> = {
            let mut state = self.state.lock();
            if state.trees.remove(tree).is_none() {
                return;
            }
            state.close_pipes(tree);
            state.handles.iter().filter(|(_, handle)| handle.tree == Some(tree)).map(|(id, _)| id).collect()
        };
        for handle in handles {
            if keep {
                let mut state = self.state.lock();
                if state.keep_durable(handle, now) {
                    Self::end_waiting_on(&mut state, handle);
                    continue;
                }
            }
            // Errors have nobody to go to.
            let _ = self.close_handle(handle);
        }
    }
}
