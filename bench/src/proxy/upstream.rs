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
}

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
        }
    }
}
