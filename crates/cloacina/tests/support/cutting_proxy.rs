//! A proxy between a client and a PostgreSQL server. It cuts its first connection at a given message of the client, or
//! removes the options from every startup message.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The fault that the proxy causes. The messages of a client are counted from 1, which is the startup message.
#[derive(Clone, Copy)]
pub enum Cut {
    /// Cuts the first connection before this message reaches the server.
    Before(usize),
    /// Cuts the first connection before the answer to this message reaches the client.
    After(usize),
    /// Does not cut a connection, but removes the `options` from every startup message.
    Options,
}

pub struct Proxy {
    pub port: u16,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(server: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let done = Arc::new(AtomicBool::new(false));
        let was_cut = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut cut = Some(cut);
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server)))
                else {
                    return;
                };
                let first = cut.take();
                if matches!(first, Some(Cut::Options)) {
                    cut = first;
                }
                let (cut, was_cut) = (first, Arc::clone(&was_cut));
                std::thread::spawn(move || forward(client, server, cut, &was_cut));
            }
        });
        Self { port, cut: done }
    }

    /// Returns whether the first connection was cut.
    pub fn has_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// Forwards the messages of a connection in both directions, and cuts the connection if `cut` requires it.
fn forward(client: TcpStream, server: TcpStream, cut: Option<Cut>, was_cut: &AtomicBool) {
    let drops_answers = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_dropping = Arc::clone(&drops_answers);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from_server.read(&mut buffer) {
            if is_dropping.load(Ordering::Acquire)
                || to_client.write_all(&buffer[..length]).is_err()
            {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let mut count = 0;
    while let Some(mut message) = read_message(&mut from_client, count == 0) {
        count += 1;
        if matches!(cut, Some(Cut::Options)) && count == 1 {
            message = without_options(&message);
        }
        match cut {
            Some(Cut::Before(at)) if at == count => {
                was_cut.store(true, Ordering::Release);
                break;
            }
            Some(Cut::After(at)) if at == count => {
                was_cut.store(true, Ordering::Release);
                // The connection ends when the server answers. Until then messages are forwarded, because the server
                // needs them for its answer.
                drops_answers.store(true, Ordering::Release);
            }
            _ => {}
        }
        if to_server.write_all(&message).is_err() {
            break;
        }
    }
    let _ = from_client.shutdown(Shutdown::Both);
    let _ = to_server.shutdown(Shutdown::Both);
}

/// Reads a message: its type, its length and its contents. The startup message has no type. Returns `None` if the
/// connection ends.
fn read_message(stream: &mut TcpStream, is_first: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if is_first { 4 } else { 5 }];
    stream.read_exact(&mut message).ok()?;
    let length: [u8; 4] = message[message.len() - 4..].try_into().ok()?;
    let rest = usize::try_from(u32::from_be_bytes(length))
        .ok()?
        .checked_sub(4)?;
    let start = message.len();
    message.resize(start + rest, 0);
    stream.read_exact(&mut message[start..]).ok()?;
    Some(message)
}

/// Removes the options from a startup message. The message has a length, the protocol version, and zero-terminated
/// names and values.
fn without_options(start: &[u8]) -> Vec<u8> {
    let texts: Vec<&[u8]> = start[8..].split(|byte| *byte == 0).collect();
    let mut kept = start[4..8].to_vec();
    for pair in texts
        .chunks(2)
        .filter(|pair| pair.len() == 2 && !pair[0].is_empty())
    {
        if pair[0] != b"options" {
            kept.extend([pair[0], &[0], pair[1], &[0]].concat());
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).unwrap();
    [length.to_be_bytes().to_vec(), kept].concat()
}
