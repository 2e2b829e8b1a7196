//! CHANGE_NOTIFY (MS-SMB2 3.3.5.19, MS-FSA 2.1.5.11), fed by what the engine itself does: nobody else writes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::access::Operation;
use super::dispatch::{Handled, Outcome, Request};
use super::file::Open;
use super::lease::LeaseKey;
use super::names;
use super::state::{Handle, State};
use super::waiting::WaitKind;
use super::{PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::change_notify as wire;

/// CompletionFilter bits.
pub(crate) mod filter {
    /// Files come, go and change their names.
    pub const FILE_NAME: u32 = 0x001;
    /// So do directories.
    pub const DIRECTORY_NAME: u32 = 0x002;
    /// Attributes.
    pub const ATTRIBUTES: u32 = 0x004;
    /// Sizes.
    pub const SIZE: u32 = 0x008;
    /// Times of the last write.
    pub const LAST_WRITE: u32 = 0x010;
    /// Times of the last access.
    pub const LAST_ACCESS: u32 = 0x020;
    /// Times of creation.
    pub const CREATION: u32 = 0x040;
}

/// FILE_NOTIFY_INFORMATION's Action (MS-FSCC 2.7.1).
pub(crate) mod action {
    /// A name is new.
    pub const ADDED: u32 = 1;
    /// A name is gone.
    pub const REMOVED: u32 = 2;
    /// Something about the file changed.
    pub const MODIFIED: u32 = 3;
    /// The name before.
    pub const RENAMED_OLD_NAME: u32 = 4;
    /// The name after.
    pub const RENAMED_NEW_NAME: u32 = 5;
}

/// Bytes of events that are kept for a handle between its requests.
const MAXIMUM_KEPT: usize = 0x1_0000;

/// What a handle watches, and what happened since it was last told.
pub(crate) struct Watch {
    /// The directory's path.
    path: Vec<u16>,
    volume: u16,
    filter: u32,
    recursive: bool,
    /// FILE_NOTIFY_INFORMATION entries, chained.
    events: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
    /// Bytes of events that are kept: what the first request had room for.
    limit: usize,
    /// Too much happened: the client must look for itself.
    overflow: bool,
}

impl Watch {
    /// Whether an event on `path` is to be told, and under which name.
    fn name<'a>(&self, volume: u16, path: &'a [u16]) -> Option<&'a [u16]> {
        if volume != self.volume || !names::is_below(path, &self.path) {
            return None;
        }
        let skip = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let name = path.get(skip..)?;
        (self.recursive || !name.contains(&names::SEPARATOR)).then_some(name)
    }

    fn add(&mut self, action: u32, name: &[u16]) {
        if self.overflow {
            return;
        }
        let start = self.events.len().next_multiple_of(4);
        if start + 12 + name.len() * 2 > self.limit {
            self.overflow = true;
            self.events = Vec::new();
            return;
        }
        let first = self.events.is_empty();
        self.events.resize(start, 0);
        let mut writer = Writer::with_origin(&mut self.events, 0);
        if !first {
            writer.patch_u32(self.last, (start - self.last) as u32);
        }
        writer.u32(0);
        writer.u32(action);
        writer.u32(name.len() as u32 * 2);
        writer.utf16(name);
        self.last = start;
    }

    fn has_news(&self) -> bool {
        self.overflow || !self.events.is_empty()
    }

    /// Takes the events for an answer of at most `limit` bytes.
    fn take(&mut self, limit: u32) -> (NtStatus, Vec<u8>) {
        let overflow = core::mem::take(&mut self.overflow);
        let events = core::mem::take(&mut self.events);
        if overflow || events.len() > limit as usize {
            (NtStatus::NOTIFY_ENUM_DIR, Vec::new())
        } else {
            (NtStatus::SUCCESS, events)
        }
    }
}

/// One thing that happened.
struct Event<'a> {
    action: u32,
    filter: u32,
    path: &'a [u16],
}

impl<V: Volume> State<V> {
    /// Tells everyone who watches of events that belong together.
    fn tell(&mut self, volume: u16, events: &[Event<'_>]) {
        if self.watches == 0 {
            return;
        }
        let watching: Vec<Id<Handle<V::Node>>> = self
            .handles
            .iter()
            .filter(|(_, handle)| {
                handle
                    .extra
                    .and_then(|extra| self.extras.get(extra))
                    .is_some_and(|extra| extra.watch.is_some())
            })
            .map(|(id, _)| id)
            .collect();
        for id in watching {
            let mut told = false;
            for event in events {
                let Some(watch) = self.watch_of(id) else { continue };
                if watch.filter & event.filter == 0 {
                    continue;
                }
                if let Some(name) = watch.name(volume, event.path) {
                    watch.add(event.action, name);
                    told = true;
                }
            }
            if told {
                self.answer_watch(id);
            }
        }
    }

    fn watch_of(&mut self, handle: Id<Handle<V::Node>>) -> Option<&mut Watch> {
        let extra = self.handles.get(handle)?.extra?;
        self.extras.get_mut(extra)?.watch.as_deref_mut()
    }

    /// Answers the oldest waiting request of a handle, if there is one and there is news.
    fn answer_watch(&mut self, handle: Id<Handle<V::Node>>) {
        let waiting = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.handle == Some(handle))
            .filter_map(|(id, waiting)| match waiting.kind {
                WaitKind::Notify(limit) => Some((waiting.header.message_id, id, limit)),
                _ => None,
            })
            .min_by_key(|(message, _, _)| *message);
        let Some((_, id, limit)) = waiting else { return };
        let Some(watch) = self.watch_of(handle).filter(|watch| watch.has_news()) else { return };
        let (status, events) = watch.take(limit);
        self.complete(
            id,
            status,
            Some(&|writer| {
                wire::emit(writer, events.len() as u32);
                writer.bytes(&events);
            }),
        );
    }

    /// The watches of a directory that is going to be deleted end (MS-FSA 2.1.4.1).
    pub fn end_watches_of_deleted(&mut self, file: Id<super::state::OpenFile<V::Node>>) {
        if self.watches == 0 {
            return;
        }
        let handles: Vec<_> = self.handles_of(file).map(|(id, _)| id).collect();
        let waiting = self.waiting_where(|waiting| {
            matches!(waiting.kind, WaitKind::Notify(_))
                && waiting.handle.is_some_and(|handle| handles.contains(&handle))
        });
        for id in waiting {
            self.complete(id, NtStatus::DELETE_PENDING, None);
        }
    }
}

impl<E: Environment> Server<E> {
    pub(super) fn change_notify(
        &self,
        request: &mut Request<'_>,
        mut writer: Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = wire::Request::parse(request.message)?;
        let open = self.open_file(request, parsed.file_id, Operation::List)?;
        request.check_charge(parsed.output_length)?;
        if !open.directory || parsed.output_length > self.configuration.maximum_transfer {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut path = Vec::new();
        open.volume.path(open.node, &mut path)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        if open.delete_pending {
            return Err(NtStatus::DELETE_PENDING);
        }
        let volume = state.files.get(open.file).map(|file| file.volume).ok_or(NtStatus::FILE_CLOSED)?;
        let extra = state.extra_of(open.handle).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        // The first request of a handle says what is watched.
        let mut new = false;
        let watch = extra.watch.get_or_insert_with(|| {
            new = true;
            Box::new(Watch {
                path,
                volume,
                filter: parsed.filter,
                recursive: parsed.flags & wire::WATCH_TREE != 0,
                events: Vec::new(),
                last: 0,
                limit: (parsed.output_length as usize).min(MAXIMUM_KEPT),
                overflow: false,
            })
        });
        if watch.has_news() {
            let (status, events) = watch.take(parsed.output_length);
            wire::emit(&mut writer, events.len() as u32);
            writer.bytes(&events);
            return Ok(Outcome::Done(status));
        }
        if new {
            state.watches += 1;
        }
        state.park(request, Some(open.handle), WaitKind::Notify(parsed.output_length))?;
        Ok(Outcome::Silent)
    }

    /// A name came or went; `own` is the key of the lease of its directory that stays.
    pub(super) fn note_entry(
        &self,
        volume: u16,
        path: &[u16],
        directory: bool,
        action: u32,
        own: Option<LeaseKey>,
    ) {
        let filter = name_filter(directory);
        let mut state = self.state.lock();
        state.tell(volume, &[Event { action, filter, path }]);
        state.break_directory(volume, path, own);
    }

    /// Something about an open file changed. Costs nothing while nobody watches.
    pub(super) fn note_change(&self, open: &Open<E::Volume>, filter: u32) {
        if filter == 0 || self.state.lock().watches == 0 {
            return;
        }
        let mut path = Vec::new();
        if open.volume.path(open.node, &mut path).is_err() {
            return;
        }
        let mut state = self.state.lock();
        let Some(volume) = state.files.get(open.file).map(|file| file.volume) else { return };
        state.tell(volume, &[Event { action: action::MODIFIED, filter, path: &path }]);
    }

    /// A file or directory got another name.
    pub(super) fn note_rename(&self, open: &Open<E::Volume>, from: &[u16], to: &[u16]) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(volume) = state.files.get(open.file).map(|file| file.volume) else { return };
        let own = state.parent_key(open.handle);
        state.break_directory(volume, from, own);
        state.break_directory(volume, to, own);
        if open.directory {
            state.move_directory_leases(volume, from, to);
        }
        if state.watches == 0 {
            return;
        }
        let filter = name_filter(open.directory);
        let within = match (names::parent(from), names::parent(to)) {
            (Some(from), Some(to)) => names::equal(from, to),
            _ => false,
        };
        let (old, new) = if within {
            (action::RENAMED_OLD_NAME, action::RENAMED_NEW_NAME)
        } else {
            (action::REMOVED, action::ADDED)
        };
        state.tell(
            volume,
            &[Event { action: old, filter, path: from }, Event { action: new, filter, path: to }],
        );
        if !within && !open.directory {
            return;
        }
        // What is watched may have moved, too.
        for (_, extra) in state.extras.iter_mut() {
            let Some(watch) = extra.watch.as_deref_mut().filter(|watch| watch.volume == volume) else {
                continue;
            };
            let itself = names::equal(&watch.path, from);
            if itself || names::is_below(&watch.path, from) {
                let mut path = to.to_vec();
                path.extend_from_slice(watch.path.get(from.len()..).unwrap_or(&[]));
                watch.path = path;
            }
        }
    }
}

fn name_filter(directory: bool) -> u32 {
    if directory { filter::DIRECTORY_NAME } else { filter::FILE_NAME }
}
