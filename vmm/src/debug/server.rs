//! The server: a port or a Unix socket that one gdb connects to.

use std::fmt;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use gdbstub::target::Target;

use super::Error;
use super::run::Run;
use super::target::Debugged;

/// Where gdb connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`, or `:PORT` on this host only.
    Port(String),
    /// `unix:PATH`.
    Socket(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address; expected PORT, HOST:PORT or unix:PATH")]
pub struct BadAddress(String);

impl Address {
    /// The folder of the socket that is made, where one is.
    pub fn folder(&self) -> Option<PathBuf> {
        let Address::Socket(path) = self else { return None };
        Some(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into())
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Socket(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        port.parse::<u16>().map_err(|_| bad())?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self::Port(format!("{host}:{port}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Port(address) => f.write_str(address),
            Address::Socket(path) => path.display().fmt(f),
        }
    }
}

enum Socket {
    Port(TcpListener),
    Unix(UnixListener),
}

/// A server that nobody has connected to yet.
pub struct Listener {
    socket: Socket,
    address: Address,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Socket(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a connection is read and written by.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A connection that is only ever waited on. It is never asked whether something has come: a run
/// goes anywhere at once, and the sandbox leaves no call to ask with.
struct Connection(Box<dyn Stream>);

impl gdbstub::conn::Connection for Connection {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.0.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl ConnectionExt for Connection {
    fn read(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).map(|()| byte[0])
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(None)
    }
}

impl Listener {
    /// Listens on `address`; port 0 takes one that is free.
    pub fn new(address: &Address) -> Result<Self, Error> {
        let failed = |why| Error::Listen { address: address.to_string(), why };
        let socket = match address {
            Address::Port(at) => {
                let at = at.to_socket_addrs().map_err(failed)?.collect::<Vec<_>>();
                Socket::Port(TcpListener::bind(&at[..]).map_err(failed)?)
            }
            Address::Socket(path) => Socket::Unix(UnixListener::bind(path).map_err(failed)?),
        };
        let address = match &socket {
            Socket::Port(listener) => Address::Port(listener.local_addr().map_err(failed)?.to_string()),
            Socket::Unix(_) => address.clone(),
        };
        Ok(Self { socket, address })
    }

    /// Where it listens, as gdb's `target remote` takes it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for one gdb, and serves it until it leaves.
    pub fn serve(&self, run: Box<dyn Run + '_>, plain: fn(&str) -> String) -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::Connection(e.to_string());
        let connection = match &self.socket {
            Socket::Port(listener) => {
                let (stream, _) = listener.accept().map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?; // packets are small, and waited for
                Connection(Box::new(stream))
            }
            Socket::Unix(listener) => Connection(Box::new(listener.accept().map_err(failed)?.0)),
        };
        let mut target = Debugged::new(run, plain);
        match GdbStub::new(connection).run_blocking::<Loop<'_>>(&mut target) {
            Ok(DisconnectReason::Disconnect | DisconnectReason::Kill) => Ok(()),
            Ok(other) => Err(Error::Connection(format!("it ended with {other:?}"))),
            // gdb that goes away without a word has left, too.
            Err(e) if e.is_connection_error() => Ok(()),
            Err(e) => Err(match e.is_target_error() {
                true => e.into_target_error().unwrap_or_else(|| Error::Connection("it failed".into())),
                false => Error::Connection(e.to_string()),
            }),
        }
    }
}

struct Loop<'a>(PhantomData<&'a ()>);

impl<'a> BlockingEventLoop for Loop<'a> {
    type Target = Debugged<'a>;
    type Connection = Connection;
    type StopReason = SingleThreadStopReason<u64>;

    /// A run is recorded: to go anywhere in it takes no time in which gdb could interrupt.
    fn wait_for_stop_reason(
        target: &mut Debugged<'a>,
        _: &mut Connection,
    ) -> Result<Event<Self::StopReason>, WaitForStopReasonError<<Debugged<'a> as Target>::Error, std::io::Error>> {
        target.go_on().map(Event::TargetStopped).map_err(WaitForStopReasonError::Target)
    }

    fn on_interrupt(_: &mut Debugged<'a>) -> Result<Option<Self::StopReason>, Error> {
        Ok(Some(SingleThreadStopReason::Signal(Signal::SIGINT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_path() {
        let port = |text: &str| Ok(Address::Port(text.into()));
        assert_eq!("1234".parse(), port("127.0.0.1:1234"));
        assert_eq!(":0".parse(), port("127.0.0.1:0"));
        assert_eq!("[::1]:99".parse(), port("[::1]:99"));
        assert_eq!("unix:/tmp/x".parse(), Ok(Address::Socket("/tmp/x".into())));
        for bad in ["", "unix:", "host", "1:70000"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
