//! QEMU's machine protocol, as far as xtask needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection to a QEMU process.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket at `path` and leaves negotiation mode.
    pub fn connect(path: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| format!("QMP: {error}"))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.receive()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn receive(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(|error| format!("QMP: {error}"))?;
        if length == 0 {
            return Err("QMP: QEMU is gone".into());
        }
        serde_json::from_str(&line).map_err(|error| format!("QMP: {error}: {line}"))
    }

    /// Runs a command and returns what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.reader
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .map_err(|error| format!("QMP: {error}"))?;
        loop {
            let mut answer = self.receive()?;
            if let Some(error) = answer.get("error") {
                return Err(format!("QMP: {command}: {error}"));
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            // An event; nobody here waits for one.
        }
    }

    /// Runs a command of the human monitor and returns what it printed.
    pub fn monitor(&mut self, line: &str) -> Result<String, String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or("").to_string())
    }

    /// Instructions that the guest has executed since it was started. Counts only under `-icount`; time in which the
    /// processor was halted is not in it.
    pub fn instructions(&mut self) -> Result<u64, String> {
        let answer = self.execute("query-replay", json!({}))?;
        answer
            .get("icount")
            .and_then(Value::as_u64)
            .ok_or_else(|| format!("QMP: query-replay answered {answer}"))
    }
}
