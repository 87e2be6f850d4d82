//! Each block of `unsafe` once with what it is for and once with what is refused; also under AddressSanitizer, as
//! CONTRIBUTING.md says.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, SockFlag, SockType, SockaddrIn, bind, getsockname, sendmsg, socket,
};

use super::seccomp::{Call, Listener, defer_sockets};
use super::*;

#[test]
fn descriptors_come_with_the_bytes_they_were_sent_with() {
    let (here, there) = UnixStream::pair().unwrap();
    let pipes: Vec<_> = (0..MOST_DESCRIPTORS).map(|_| std::io::pipe().unwrap()).collect();
    let raw: Vec<RawFd> = pipes.iter().map(|(_, writer)| writer.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<UnixAddr>(here.as_raw_fd(), &[IoSlice::new(b"eight")], &rights, MsgFlags::empty(), None).unwrap();
    let mut buffer = [0; 16];
    let (read, descriptors) = receive(there.as_fd(), &mut buffer).unwrap();
    assert_eq!((&buffer[..read], descriptors.len()), (&b"eight"[..], MOST_DESCRIPTORS));
    for (n, (mut reader, writer)) in pipes.into_iter().enumerate() {
        drop(writer);
        let mut received = File::from(descriptors[n].try_clone().unwrap());
        write!(received, "{n}").unwrap();
        let mut text = [0; 1];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(text, n.to_string().as_bytes());
    }
    here.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(receive(there.as_fd(), &mut buffer), Ok((0, none)) if none.is_empty()));
}

#[test]
fn a_terminal_has_the_size_it_was_given() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    resize_terminal(&terminal.slave, 24, 91).unwrap();
    let told = Command::new("stty").arg("size").stdin(terminal.slave).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "24 91\n");
}

#[test]
fn what_is_no_terminal_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    for refused in [resize_terminal(&reader, 1, 1), set_controlling_terminal(&reader)] {
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}

#[test]
fn an_unknown_capability_is_told_apart() {
    match drop_capability(200) {
        Ok(known) => assert!(!known),
        // Whoever may drop none learns of none.
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
    }
}

#[test]
fn a_mount_that_is_not_there_is_not_made_read_only() {
    for reach in [Reach::One, Reach::Tree] {
        let error = make_read_only(Path::new("/nowhere at all"), reach).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM)), "{error}");
    }
}

/// A call of `socket` by a thread whose calls are deferred, answered as `answer` likes.
fn deferred(answer: impl FnOnce(&Listener, &Call)) -> nix::Result<OwnedFd> {
    let (sends, listener) = channel();
    let caller = std::thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        sends.send(defer_sockets().unwrap()).unwrap();
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
    });
    let listener = Listener::new(listener.recv().unwrap());
    let call = listener.next().unwrap().unwrap();
    assert_eq!((call.domain, call.kind), (libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC));
    answer(&listener, &call);
    let made = caller.join().unwrap();
    assert!(listener.next().unwrap().is_none(), "nobody is left who could call");
    made
}

#[test]
fn a_deferred_call_returns_what_it_is_given() {
    let ours = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(ours.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))).unwrap();
    let theirs = deferred(|listener, call| listener.give(call, ours.as_fd()).unwrap()).unwrap();
    let name = |fd: &OwnedFd| getsockname::<SockaddrIn>(fd.as_raw_fd()).unwrap();
    assert_eq!(name(&theirs), name(&ours));
}

#[test]
fn a_deferred_call_fails_as_it_is_told_to() {
    let refused = deferred(|listener, call| listener.refuse(call, Errno::EMFILE).unwrap());
    assert_eq!(refused.unwrap_err(), Errno::EMFILE);
}

#[test]
fn a_deferred_call_may_be_the_kernels_again() {
    let made = deferred(|listener, call| listener.pass(call).unwrap()).unwrap();
    assert_eq!(getsockname::<SockaddrIn>(made.as_raw_fd()).unwrap().port(), 0);
}
