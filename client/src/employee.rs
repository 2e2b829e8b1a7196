//! A client that works for a [`Worker`](storage::test_devices::workload::Worker).

use storage::test_devices::workload::{Answer, Failure, Files};

use crate::{ClientError, Handle, SmbClient, Transport};

/// Bytes a request moves.
const PIECE: usize = 65_536;

/// A connection on which a worker works, with the clock of the power cuts.
pub struct Employee<T, C> {
    client: SmbClient<T>,
    clock: C,
}

impl<T: Transport, C: Fn() -> u64> Employee<T, C> {
    /// Works through `client`, which is connected to a share; `clock` says the time.
    pub fn new(client: SmbClient<T>, clock: C) -> Self {
        Self { client, clock }
    }
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Status(status) => Failure::Refused(format!("{status:#010x}")),
        ClientError::Disconnected | ClientError::Malformed => Failure::Lost,
    }
}

impl<T: Transport, C: Fn() -> u64> Files for Employee<T, C> {
    type Handle = Handle;

    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn create(&mut self, path: &str) -> Answer<Handle> {
        self.client.create_file(path).map_err(failure)
    }

    fn open(&mut self, path: &str) -> Answer<Handle> {
        self.client.open_to_change(path).map_err(failure)
    }

    fn make_directory(&mut self, path: &str) -> Answer<()> {
        self.client.make_directory(path).map_err(failure)
    }

    fn write(&mut self, file: Handle, offset: u64, data: &[u8], through: bool) -> Answer<()> {
        // In two requests it would be two steps, of which a power cut may leave one.
        assert!(data.len() <= PIECE, "a write of {} bytes is no single request", data.len());
        self.client.write_flagged(file, offset, data, through).map_err(failure)
    }

    fn resize(&mut self, file: Handle, size: u64) -> Answer<()> {
        self.client.set_end_of_file(file, size).map_err(failure)
    }

    fn flush(&mut self, file: Handle) -> Answer<()> {
        self.client.flush(file).map_err(failure)
    }

    fn close(&mut self, file: Handle) -> Answer<()> {
        self.client.close(file).map_err(failure)
    }

    fn rename(&mut self, path: &str, to: &str, replace: bool) -> Answer<()> {
        self.client.rename_over(path, to, replace).map_err(failure)
    }

    fn remove(&mut self, path: &str) -> Answer<()> {
        self.client.remove(path).map_err(failure)
    }

    fn list(&mut self, path: &str) -> Answer<Vec<(String, bool)>> {
        self.client.list_kinds(path).map_err(failure)
    }

    fn content(&mut self, path: &str) -> Answer<Vec<u8>> {
        let (file, size) = self.client.open_sized(path).map_err(failure)?;
        let mut content = Vec::new();
        while (content.len() as u64) < size {
            let piece = self.client.read(file, content.len() as u64, PIECE as u32).map_err(failure)?;
            if piece.is_empty() {
                return Err(Failure::Refused("a read of nothing before the end of the file".into()));
            }
            content.extend(piece);
        }
        self.client.close(file).map_err(failure)?;
        Ok(content)
    }
}
