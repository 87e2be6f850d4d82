//! What proxies lead to.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream does with a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upstream {
    /// Sends back what it gets.
    Echo,
    /// Sends this many bytes after the first that it gets, and ends.
    Send(u64),
    /// Answers each request in HTTP/1.1 that has no body with [`ANSWER`].
    Answer,
}

/// What [`Upstream::Answer`] says.
pub(crate) const ANSWER: &[u8] = b"{\"served\":1}\n";

/// What ends the head of a request.
const END: &[u8] = b"\r\n\r\n";

impl Upstream {
    /// Serves on a port of its own for as long as the runtime lives.
    pub(crate) async fn start(self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that has seen enough is no failure.
                tokio::spawn(async move { drop(self.serve(stream).await) });
            }
        });
        Ok(address)
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 << 10];
        match self {
            Upstream::Echo => loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..length]).await?;
            },
            Upstream::Send(total) => {
                let mut left = if stream.read(&mut buffer).await? == 0 { 0 } else { total };
                while left > 0 {
                    let part = left.min(buffer.len() as u64);
                    stream.write_all(&buffer[..part as usize]).await?;
                    left -= part;
                }
                stream.shutdown().await
            }
            Upstream::Answer => answer(stream, &mut buffer).await,
        }
    }
}

async fn answer(mut stream: TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", ANSWER.len())
            .into_bytes();
    answer.extend_from_slice(ANSWER);
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let heads = buffer[..filled].windows(END.len()).filter(|window| *window == END).count();
        stream.write_all(&answer.repeat(heads)).await?;
        let used = buffer[..filled].windows(END.len()).rposition(|window| window == END).map_or(0, |at| at + END.len());
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}
