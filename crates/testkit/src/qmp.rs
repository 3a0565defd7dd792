//! The few words of QEMU's machine protocol that the lab needs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{LabError, Result, at};

/// How long QEMU may take to open its socket or to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects to the socket that QEMU makes at `path`, waiting until it is there.
    pub fn connect(path: &Path) -> Result<Self> {
        let start = Instant::now();
        let writer = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(source) if start.elapsed() > PATIENCE => {
                    return Err(LabError::Io { path: path.into(), source });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        writer.set_read_timeout(Some(PATIENCE)).map_err(at(path))?;
        let reader = BufReader::new(writer.try_clone().map_err(at(path))?);
        let mut qmp = Self { reader, writer };
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Sends a command and waits for its answer; events in between are dropped.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").map_err(at("QMP"))?;
        loop {
            let answer = self.line()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(LabError::Machine(format!("QMP {command}: {error}")));
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).map_err(at("QMP"))? == 0 {
            return Err(LabError::Machine("QEMU closed its QMP socket".into()));
        }
        serde_json::from_str(&line).map_err(|error| LabError::Machine(format!("QMP: {error}: {line}")))
    }
}
