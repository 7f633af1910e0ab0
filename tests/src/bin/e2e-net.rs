//! What the network tests run inside pods, where the host's libraries are mounted: a server that says who it is and who
//! called, and ends 50 ms after SIGTERM whatever is under way; clients for TCP, UDP and names. One thread a connection.
#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: it ends abruptly, after a pause, which is what the tests are about"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [_, "serve", port] => serve(port.parse().expect("port")),
        [_, "get", to] => get(to),
        [_, "udp", to] => udp(to),
        [_, "resolve", name] => resolve(name),
        _ => panic!("serve PORT | get ADDRESS | udp ADDRESS | resolve NAME"),
    };
    if let Err(e) = result {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

/// Both families where the kernel has both.
fn addresses(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from(([0u16; 8], port)), SocketAddr::from(([0, 0, 0, 0], port))]
}

fn said(who: &str, peer: SocketAddr) -> String {
    let ip = match peer.ip() {
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(IpAddr::V6(a), IpAddr::V4),
        v4 => v4,
    };
    format!("{who} {ip}\n")
}

fn serve(port: u16) -> std::io::Result<()> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block()?;
    std::thread::spawn(move || {
        let _ = term.wait();
        std::thread::sleep(Duration::from_millis(50));
        std::process::exit(0);
    });
    let who = std::env::var("WHO").unwrap_or_default();
    let socket = UdpSocket::bind(&addresses(port)[..])?;
    let name = who.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(said(&name, from).as_bytes(), from);
        }
    });
    for stream in TcpListener::bind(&addresses(port)[..])?.incoming().flatten() {
        let who = who.clone();
        std::thread::spawn(move || answer(stream, &who));
    }
    Ok(())
}

/// HTTP/1.1 with connections that are kept; a request is all there is up to the empty line.
fn answer(mut stream: TcpStream, who: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let body = said(who, stream.peer_addr()?);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&buffer[..n]);
        while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            seen.drain(..end + 4);
            stream.write_all(reply.as_bytes())?;
        }
    }
}

fn get(to: &str) -> std::io::Result<()> {
    let address = to.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with('\n') || !text.contains("\r\n\r\n") {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    print!("{}", text.split("\r\n\r\n").nth(1).unwrap_or_default());
    Ok(())
}

/// Asks again when nothing comes: datagrams may be lost.
fn udp(to: &str) -> std::io::Result<()> {
    let address = to.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no address"))?;
    let any = addresses(0)[usize::from(address.is_ipv4())];
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(address)?;
    let mut buffer = [0; 512];
    let mut last = std::io::Error::other("no answer");
    for _ in 0..10 {
        socket.send(b"?")?;
        match socket.recv(&mut buffer) {
            Ok(n) => {
                print!("{}", String::from_utf8_lossy(&buffer[..n]));
                return Ok(());
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// By the C library, with the pod's resolv.conf and hosts.
fn resolve(name: &str) -> std::io::Result<()> {
    let mut all: Vec<IpAddr> = (name, 0).to_socket_addrs()?.map(|a| a.ip()).collect();
    all.sort();
    all.dedup();
    all.iter().for_each(|ip| println!("{ip}"));
    Ok(())
}
