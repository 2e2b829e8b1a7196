//! Leases of directories: a client may keep what a directory lists until somebody else changes it (MS-SMB2 3.3.1.13,
//! 3.3.4.7; MS-FSA 2.1.4.12, PARENT_OBJECT). Who names the lease of the directory above in its own lease's request
//! knows of its own changes: that lease stays.

use alloc::vec::Vec;

use super::file::Open;
use super::lease::{Lease, LeaseKey};
use super::names;
use super::state::{Handle, State};
use super::{NodeOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};

/// Code units of the longest path of a directory that is leased; it is kept as long as the lease.
const LONGEST_PATH: usize = 260;

/// Where a directory that is leased lies.
pub(crate) struct DirectoryLease {
    pub lease: Id<Lease>,
    volume: u16,
    path: Vec<u16>,
}

impl<V: Volume> State<V> {
    /// Whether a lease of the directory at `path` can be given.
    pub fn may_lease_directory(&self, path: &[u16]) -> bool {
        path.len() <= LONGEST_PATH
    }

    /// Notes where a directory with a new lease lies.
    pub fn enter_directory_lease(&mut self, lease: Id<Lease>, volume: u16, path: &[u16]) {
        self.directory_leases.push(DirectoryLease { lease, volume, path: path.to_vec() });
    }

    /// The key of the lease of the directory above, as a handle's own lease names it.
    pub fn parent_key(&self, handle: Id<Handle<V::Node>>) -> Option<LeaseKey> {
        let lease = self.lease_of(self.handles.get(handle)?)?;
        self.leases.get(lease)?.parent
    }

    /// The directory that `path` lies in lists something else now: breaks its leases, but the one with the key `own`.
    pub fn break_directory(&mut self, volume: u16, path: &[u16], own: Option<LeaseKey>) {
        if self.directory_leases.is_empty() {
            return;
        }
        let Some(parent) = names::parent(path) else { return };
        let of_parent = |entry: &&DirectoryLease| {
            entry.volume == volume && entry.path.len() == parent.len() && names::equal(&entry.path, parent)
        };
        let found: Vec<_> = self.directory_leases.iter().filter(of_parent).map(|entry| entry.lease).collect();
        for id in found {
            if self.leases.get(id).is_some_and(|lease| own != Some(lease.key)) {
                self.break_lease(id, 0);
            }
        }
    }

    /// A directory was renamed: what is leased may have moved along.
    pub fn move_directory_leases(&mut self, volume: u16, from: &[u16], to: &[u16]) {
        for entry in self.directory_leases.iter_mut().filter(|entry| entry.volume == volume) {
            if names::equal(&entry.path, from) || names::is_below(&entry.path, from) {
                let mut path = to.to_vec();
                path.extend_from_slice(entry.path.get(from.len()..).unwrap_or(&[]));
                entry.path = path;
            }
        }
    }
}

impl<E: Environment> Server<E> {
    /// What the directory above lists of an open file was changed through its handle. Costs nothing while no directory
    /// is leased.
    pub(super) fn change_parent(&self, open: &Open<E::Volume>) {
        let (volume, own) = {
            let state = self.state.lock();
            if state.directory_leases.is_empty() {
                return;
            }
            let Some(file) = state.files.get(open.file) else { return };
            (file.volume, state.parent_key(open.handle))
        };
        self.change_parent_of_node(&*open.volume, open.node, volume, own);
    }

    /// As [`Server::change_parent`], where there is no handle any more.
    pub(super) fn change_parent_of_node(
        &self,
        volume: &E::Volume,
        node: NodeOf<E>,
        index: u16,
        own: Option<LeaseKey>,
    ) {
        let mut path = Vec::new();
        if volume.path(node, &mut path).is_ok() {
            self.state.lock().break_directory(index, &path, own);
        }
    }
}
