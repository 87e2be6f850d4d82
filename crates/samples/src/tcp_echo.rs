//! `tcp-echo PORTS PREFIX`: answers each line with `PREFIX line`, as the sample of that name in Istio does.

use std::net::IpAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Failure;
use crate::serve::{accept, listen, log, until_signalled};

const USAGE: &str = "usage: tcp-echo PORT[,PORT…] PREFIX";

/// A longer line ends its connection, so that a client cannot make the server hold any amount of memory.
const LONGEST_LINE: u64 = 1 << 20;

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let [ports, prefix] = args else { return Err(Failure::Usage(USAGE.into())) };
    let ports = parse_ports(ports)?;
    until_signalled(serve(ports, prefix))
}

fn parse_ports(text: &str) -> Result<Vec<u16>, Failure> {
    let port = |part: &str| part.trim().parse().map_err(|_| Failure::Usage(format!("{part:?} is not a port\n{USAGE}")));
    text.split(',').map(port).collect()
}

async fn serve(ports: Vec<u16>, prefix: &str) -> Result<(), Failure> {
    let mut accepting = Vec::new();
    for port in ports {
        let listener = listen(port).await?;
        log(format_args!("listening on [::]:{port}, prefix: {prefix}"));
        let prefix = prefix.to_owned();
        accepting.push(tokio::spawn(accept(listener, move |stream, peer| connection(stream, peer, prefix.clone()))));
    }
    for task in accepting {
        task.await.map_err(|error| Failure::Start(error.into()))?;
    }
    Ok(())
}

async fn connection(stream: TcpStream, peer: IpAddr, prefix: String) {
    if let Err(error) = echo(stream, &prefix).await {
        log(format_args!("connection from {peer}: {error}"));
    }
}

async fn echo(mut stream: TcpStream, prefix: &str) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            if line.len() as u64 == LONGEST_LINE {
                log(format_args!("a line is longer than {LONGEST_LINE} bytes: closing the connection"));
            }
            return writer.shutdown().await;
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        log(format_args!("request: {text}\nresponse: {prefix} {text}"));
        let mut answer = Vec::with_capacity(prefix.len() + 1 + line.len());
        answer.extend_from_slice(prefix.as_bytes());
        answer.push(b' ');
        answer.extend_from_slice(&line);
        writer.write_all(&answer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    async fn ask(bytes: &[u8]) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(accept(listener, |stream, peer| connection(stream, peer, "hello".into())));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn each_line_is_answered_with_the_prefix() {
        assert_eq!(ask(b"port 9000\nworld\r\n").await, "hello port 9000\nhello world\r\n");
    }

    #[tokio::test]
    async fn a_line_without_its_end_is_not_answered() {
        assert_eq!(ask(b"one\ntwo").await, "hello one\n");
    }

    #[test]
    fn ports_are_a_list_of_numbers() {
        assert_eq!(parse_ports("9000,9001, 9002").unwrap(), [9000, 9001, 9002]);
        assert!(matches!(parse_ports("9000,x"), Err(Failure::Usage(message)) if message.contains("\"x\"")));
        assert!(matches!(parse_ports("70000"), Err(Failure::Usage(_))));
    }
}
