//! The example `service`: fifty clients, some of which hang up, tenants with limits of their own, and an end
//! in good order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;

struct Service {
    child: Child,
    address: String,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Service {
    fn start() -> Service {
        let mut child = Command::new(env!("CARGO_BIN_EXE_service")).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().to_owned();
        Service { child, address, stdout }
    }

    fn send(&self, tenant: &str, record: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = record.len();
        let head = format!("POST /run HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-tenant: {tenant}\r\n");
        write!(stream, "{head}content-length: {length}\r\n\r\n{record}").unwrap();
        stream
    }

    /// The status and the body of an answer.
    fn answer(mut stream: TcpStream) -> (u32, String) {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn ask(&self, tenant: &str, record: &str) -> (u32, String) {
        Self::answer(self.send(tenant, record))
    }

    fn ask_to_end(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Waits for the end. Gives the rest of what it has said.
    fn wait(mut self) -> String {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        said
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _reaped_before = self.child.wait();
    }
}

#[test]
fn fifty_clients_have_their_answers_and_those_who_hang_up_cost_nothing() {
    let service = Service::start();
    thread::scope(|scope| {
        for n in 0..50 {
            let service = &service;
            scope.spawn(move || match n % 5 {
                // A task without an end, under a limit of a minute, whose client goes away.
                0 => drop(service.send("paid", "loop")),
                1 => assert_eq!(service.ask("paid", "bad"), (422, "bad is bad".to_owned())),
                2 => assert_eq!(service.ask("paid", "panic").0, 502),
                _ => assert_eq!(service.ask("paid", &format!("record {n}")), (200, format!("record {n}"))),
            });
        }
    });
    // Each tenant has its own limits.
    let (status, said) = service.ask("free", "loop");
    assert!(status == 504 && said.starts_with("timeout after 500ms"), "{status} {said}");
    assert_eq!(service.ask("nobody", "a").0, 401);
    service.ask_to_end();
    assert!(service.wait().contains("ended in good order"));
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let service = Service::start();
    let mut stream = TcpStream::connect(&service.address).unwrap();
    let head = "POST /run HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\n";
    write!(stream, "{head}content-length: 4\r\n\r\n").unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    // The service waits for the body, so that the request is under way when the end comes.
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    service.ask_to_end();
    stream.write_all(b"loop").unwrap();
    assert_eq!(Service::answer(stream).0, 504);
    assert!(service.wait().contains("ended in good order"));
}
