//! Attaching clients to a container's own streams.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};

use super::lifetime::Container;
use super::{complain, spawn};
use crate::runtime::kernel;
use crate::runtime::sandbox::protocol::{Failure, Reply, Resize, receive, send};

impl Container {
    /// Joins a client's three descriptors to the container's streams until the client closes the connection or the
    /// container ends.
    pub(super) fn attach(
        self: &Arc<Container>,
        descriptors: Vec<OwnedFd>,
        connection: &UnixStream,
    ) -> Result<(), Failure> {
        let mut descriptors = descriptors.into_iter();
        let (Some(stdin), Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next(), descriptors.next())
        else {
            return Err(Failure::new("attach needs three streams"));
        };
        if self.running().is_none() {
            return Err(Failure::new(format!("container {:?} is not running", self.name())));
        }
        self.output.attach(stdout, stderr);
        let container = self.clone();
        spawn("attach", move || container.feed(File::from(stdin)))?;
        send(connection, &Reply::Done, &[]).map_err(Failure::new)?;
        while let Ok(Some((size, _))) = receive::<Resize>(connection) {
            let resized = self.terminal.as_ref().map(|t| kernel::resize_terminal(t, size.rows, size.columns));
            if let Some(Err(error)) = resized {
                complain(format_args!("resizing a terminal: {error}"));
            }
        }
        Ok(())
    }

    /// Copies a client's input to the container.
    fn feed(&self, mut client: File) {
        let mut chunk = vec![0; 16 << 10];
        loop {
            let read = match client.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
            let target = input.as_ref().and_then(|file| file.try_clone().ok());
            drop(input);
            let Some(mut target) = target else { return };
            if target.write_all(chunk.get(..read).unwrap_or_default()).is_err() {
                return;
            }
        }
        if self.stdin_once {
            self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}
