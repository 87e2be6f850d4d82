//! `nc HOST PORT`: stdin to a TCP connection, the connection to stdout.
//!
//! Documents pipe a line into `nc` and expect it to return once the server has answered. Some hosts' `nc` keeps the
//! connection open after the end of stdin and so never returns; this one closes its sending half, as busybox's does.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::serve::{listen, until_signalled};

const USAGE: &str = "usage: nc [-nNvz] [-q SECONDS] [-w SECONDS] HOST PORT\n       nc -l [-p] PORT";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
struct Options {
    /// Wait for a connection instead of making one.
    listen: bool,
    /// Say what happens.
    verbose: bool,
    /// Only find out whether something listens.
    probe: bool,
    /// How long a connection may take; and after how long a silence it is given up, which is no failure.
    patience: Option<Duration>,
    host: String,
    port: u16,
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let options = parse(args)?;
    until_signalled(async {
        let stream = if options.listen { accept(&options).await? } else { connect(&options).await? };
        if options.probe {
            return Ok(());
        }
        relay(stream, tokio::io::stdin(), tokio::io::stdout(), options.patience).await.map_err(Failure::Connection)
    })
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let usage = |message: String| Failure::Usage(format!("{message}\n{USAGE}"));
    let number = |text: &str| text.parse().map_err(|_| usage(format!("{text:?} is not a number")));
    let (mut listen, mut verbose, mut probe, mut patience) = (false, false, false, None);
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(argument) = args.next() {
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            words.push(argument.as_str());
            continue;
        };
        for (at, letter) in letters.char_indices() {
            match letter {
                'l' => listen = true,
                'v' => verbose = true,
                'z' => probe = true,
                // Names are looked up when they are names, and the sending half is closed in any case.
                'n' | 'N' | 'p' => {}
                'w' | 'q' => {
                    let attached = letters.get(at + 1..).filter(|rest| !rest.is_empty()).map(str::to_owned);
                    let value = attached.or_else(|| args.next().cloned()).unwrap_or_default();
                    let seconds = Duration::from_secs(number(&value)?);
                    if letter == 'w' {
                        patience = Some(seconds);
                    }
                    break;
                }
                _ => return Err(usage(format!("unknown option -{letter}"))),
            }
        }
    }
    let (host, port) = match (words.as_slice(), listen) {
        ([host, port], false) => (*host, *port),
        ([port], true) => ("", *port),
        _ => return Err(Failure::Usage(USAGE.into())),
    };
    let port = port.parse().map_err(|_| usage(format!("{port:?} is not a port")))?;
    Ok(Options { listen, verbose, probe, patience, host: host.to_owned(), port })
}

async fn accept(options: &Options) -> Result<TcpStream, Failure> {
    let listener = listen(options.port).await?;
    let (stream, peer) = listener.accept().await.map_err(Failure::Connection)?;
    if options.verbose {
        eprintln!("connection from {peer}");
    }
    Ok(stream)
}

async fn connect(options: &Options) -> Result<TcpStream, Failure> {
    let Options { host, port, .. } = options;
    let connecting = TcpStream::connect((host.as_str(), *port));
    let stream = in_time(options.patience, connecting).await;
    let stream = stream.map_err(|source| Failure::Connect { address: format!("{host}:{port}"), source })?;
    if options.verbose {
        eprintln!("connection to {host} {port} port succeeded");
    }
    Ok(stream)
}

/// Copies both ways until the other side ends the connection. The end of `input` closes the sending half only.
async fn relay(
    stream: TcpStream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    patience: Option<Duration>,
) -> std::io::Result<()> {
    let (mut receiver, mut sender) = stream.into_split();
    let send = async {
        tokio::io::copy(&mut input, &mut sender).await?;
        sender.shutdown().await
    };
    let receive = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = match in_time(patience, receiver.read(&mut buffer)).await {
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(()),
                read => read?,
            };
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            output.write_all(bytes).await?;
            output.flush().await?;
        }
    };
    tokio::pin!(send, receive);
    tokio::select! {
        received = &mut receive => received,
        sent = &mut send => {
            sent?;
            receive.await
        }
    }
}

async fn in_time<T>(patience: Option<Duration>, work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match patience {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|late| Err(late.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    fn parsed(line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn options_are_read_as_nc_reads_them() {
        let plain = Options {
            listen: false,
            verbose: false,
            probe: false,
            patience: None,
            host: "tcp-echo".into(),
            port: 9000,
        };
        assert_eq!(parsed("tcp-echo 9000").unwrap(), plain);
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(
            parsed("-zvw2 -q 1 tcp-echo 9000").unwrap(),
            Options { verbose: true, probe: true, patience: seconds(2), ..plain }
        );
        assert_eq!(parsed("-l -p 81").map(|options| (options.listen, options.port)), Ok((true, 81)));
        assert!(parsed("tcp-echo").unwrap_err().contains("usage"));
        assert!(parsed("-u tcp-echo 53").unwrap_err().contains("-u"));
        assert!(parsed("tcp-echo http").unwrap_err().contains("\"http\""));
        assert!(parsed("-w").unwrap_err().contains("number"));
    }

    #[tokio::test]
    async fn the_end_of_input_is_passed_on_and_the_answer_awaited() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut everything = Vec::new();
            stream.read_to_end(&mut everything).await.unwrap();
            stream.write_all(&everything).await.unwrap();
        });
        let mut output = Vec::new();
        let stream = TcpStream::connect(address).await.unwrap();
        relay(stream, b"question".as_slice(), &mut output, None).await.unwrap();
        server.await.unwrap();
        assert_eq!(output, b"question");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_longer_than_patience_ends_the_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        relay(stream, tokio::io::empty(), Vec::new(), Some(Duration::from_secs(1))).await.unwrap();
    }
}
