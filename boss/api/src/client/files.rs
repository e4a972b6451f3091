//! Files to and from boss as streams: memory does not grow with them, and their digest is computed on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder, Response};
use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, Digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::uploads::READING_TIMEOUT;
use super::{ClientError, STALL_TIMEOUT, Transport};

/// How much is read or written at once.
const PIECE_BYTES: usize = 256 << 10;

/// A local file to send: its digest, and how much of it was sent.
#[derive(Clone, Debug)]
pub struct FileUpload {
    path: PathBuf,
    digest: Digest,
    bytes: ByteLen,
    sent: Arc<AtomicU64>,
}

impl FileUpload {
    /// Reads a file once for its digest.
    ///
    /// # Errors
    /// [`ClientError::File`].
    pub async fn open(path: &Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::File { action: "read", path: path.to_owned(), source };
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0_u64;
        loop {
            let read = file.read(&mut piece).await.map_err(failed)?;
            if read == 0 {
                break;
            }
            hasher.update(&piece[..read]);
            bytes += ByteLen::of(&piece[..read]).get();
        }
        let digest = Digest::from_bytes(hasher.finalize().into());
        Ok(Self { path: path.to_owned(), digest, bytes: ByteLen::new(bytes), sent: Arc::default() })
    }

    /// Returns the digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the size.
    pub const fn bytes(&self) -> ByteLen {
        self.bytes
    }

    /// Returns the counter of bytes given to the network, for showing progress.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

impl Transport {
    /// Sends a file as the body of a request. Gives up when nothing moves for [`STALL_TIMEOUT`] before all is sent; what
    /// boss does with it then may take [`READING_TIMEOUT`].
    pub(super) async fn upload(&self, request: RequestBuilder, file: &FileUpload) -> Result<Response, ClientError> {
        let failed = |source| ClientError::File { action: "read", path: file.path.clone(), source };
        let open = tokio::fs::File::open(&file.path).await.map_err(failed)?;
        let sent = file.sent();
        sent.store(0, Ordering::Relaxed);
        let count = Arc::clone(&sent);
        let stream = ReaderStream::with_capacity(open, PIECE_BYTES).inspect(move |piece| {
            if let Ok(piece) = piece {
                count.fetch_add(ByteLen::of(piece).get(), Ordering::Relaxed);
            }
        });
        // A length up front lets boss refuse what does not fit before it is sent.
        let request = request.header(CONTENT_LENGTH, file.bytes.get()).body(Body::wrap_stream(stream));
        let mut sending = std::pin::pin!(self.send(request));
        let mut seen = 0;
        loop {
            match tokio::time::timeout(STALL_TIMEOUT, &mut sending).await {
                Ok(result) => return result,
                Err(stalled) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now >= file.bytes.get() {
                        let answer = tokio::time::timeout(READING_TIMEOUT, sending).await;
                        return answer.map_err(|stalled| self.unreachable(stalled))?;
                    }
                    if now == seen {
                        return Err(self.unreachable(stalled));
                    }
                    seen = now;
                }
            }
        }
    }

    /// Receives the body of an answer into a new file, and keeps it only if it is what was asked for.
    pub(super) async fn download(
        &self,
        request: RequestBuilder,
        expected: Digest,
        bytes: ByteLen,
        path: &Path,
    ) -> Result<(), ClientError> {
        let answer = tokio::time::timeout(STALL_TIMEOUT, self.send(request)).await;
        let mut response = answer.map_err(|stalled| self.unreachable(stalled))??;
        let result = self.receive(&mut response, expected, bytes, path).await;
        if result.is_err() {
            // The error that is returned says more than one about a leftover would.
            drop(tokio::fs::remove_file(path).await);
        }
        result
    }

    async fn receive(
        &self,
        response: &mut Response,
        expected: Digest,
        bytes: ByteLen,
        path: &Path,
    ) -> Result<(), ClientError> {
        let failed = |source| ClientError::File { action: "write", path: path.to_owned(), source };
        let url = response.url().to_string();
        let announced = response.content_length();
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut received = 0_u64;
        loop {
            let Some(chunk) = self.in_time(response.chunk()).await? else { break };
            received += ByteLen::of(&chunk).get();
            hasher.update(&chunk);
            if received > bytes.get() {
                break;
            }
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        let found = Digest::from_bytes(hasher.finalize().into());
        // A body as long as it was announced is whole: then it is the wrong one, and not one that broke off.
        if received < bytes.get() && announced != Some(received) {
            return Err(self.unreachable(format!("the answer broke off after {received} of {bytes} bytes")));
        }
        if found != expected || received != bytes.get() {
            return Err(ClientError::WrongBytes { url, bytes: received, found, expected });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, StatusCode};

    use super::*;

    /// boss flushes what it was sent, and reads back what it has.
    #[tokio::test]
    async fn once_all_is_sent_boss_may_take_its_time() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let transport = Transport::new(&address, ["api", "v1"], None).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let (file, all) = (FileUpload::open(&path).await.unwrap(), std::fs::read(&path).unwrap());
        let answering = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(&all) {
                got.push(socket.read_u8().await.unwrap());
            }
            tokio::time::pause();
            tokio::time::sleep(STALL_TIMEOUT * 3).await;
            socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            socket
        };
        let request = transport.request(Method::PUT, transport.url(&["objects", "x"]));
        let (response, _open) = tokio::join!(transport.upload(request, &file), answering);
        assert_eq!(response.unwrap().status(), StatusCode::CREATED);
    }
}
