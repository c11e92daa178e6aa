//! Messages as a client writes them, and everything that a server answers: for comparing a proxy with PostgreSQL itself.

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::WireClient;

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    built(|out| frontend::query(sql, out).expect("a query"))
}

/// Parse of a statement without parameters.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    built(|out| frontend::parse(name, sql, [], out).expect("a text"))
}

/// Bind without parameters.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    built(|out| {
        let bound = frontend::bind(portal, statement, [], [(); 0], |(), _| Ok(IsNull::Yes), [], out);
        assert!(bound.is_ok(), "names without a NUL byte");
    })
}

/// Describe of a portal.
pub fn describe(portal: &str) -> Vec<u8> {
    built(|out| frontend::describe(b'P', portal, out).expect("a name"))
}

/// Execute without a limit of rows.
pub fn execute(portal: &str) -> Vec<u8> {
    built(|out| frontend::execute(portal, 0, out).expect("a name"))
}

/// Close of a statement.
pub fn close(statement: &str) -> Vec<u8> {
    built(|out| frontend::close(b'S', statement, out).expect("a name"))
}

/// Sync.
pub fn sync() -> Vec<u8> {
    built(frontend::sync)
}

/// Flush.
pub fn flush() -> Vec<u8> {
    built(frontend::flush)
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    built(frontend::terminate)
}

/// Parse, Bind, Describe and Execute of an unnamed statement: what drivers send ahead of a Sync or a Flush.
pub fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), describe(""), execute("")].concat()
}

fn built(build: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    build(&mut out);
    out.to_vec()
}

/// What a client writes before it waits again, and for how many ReadyForQuery messages it waits.
#[derive(Debug, Clone)]
pub struct Write {
    bytes: Vec<u8>,
    /// Bytes of each piece.
    piece: usize,
    ready: usize,
}

/// One write of these messages, and a wait for the answers to every Query and every Sync among them.
pub fn write(messages: &[Vec<u8>]) -> Write {
    let bytes = messages.concat();
    let (mut ready, mut rest) = (0, bytes.as_slice());
    while let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk() {
        ready += usize::from(matches!(tag, b'Q' | b'S'));
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("small") + 1;
        rest = rest.get(size..).expect("whole messages");
    }
    Write { piece: bytes.len(), bytes, ready }
}

/// As [`write()`], in pieces of so many bytes.
pub fn in_pieces(size: usize, messages: &[Vec<u8>]) -> Write {
    Write { piece: size, ..write(messages) }
}

impl WireClient {
    /// Writes and waits as told. Gives every answer but reports of parameters: one line a message, its type and what it says.
    ///
    /// Of a RowDescription only the type: it names the table's number.
    pub async fn play(&mut self, writes: &[Write]) -> Vec<String> {
        let mut answers = Vec::new();
        for one in writes {
            self.write(one).await;
            answers.extend(self.answers(one).await);
        }
        answers
    }

    /// Writes.
    pub async fn write(&mut self, write: &Write) {
        for piece in write.bytes.chunks(write.piece.max(1)) {
            self.send(piece).await;
        }
    }

    /// Waits for what is due for it.
    pub async fn answers(&mut self, write: &Write) -> Vec<String> {
        let (mut answers, mut due) = (Vec::new(), write.ready);
        while due > 0 {
            let (tag, body) = self.message().await.unwrap_or_else(|| panic!("{due} are still due after {answers:?}"));
            due -= usize::from(tag == b'Z');
            match tag {
                b'S' => {}
                b'T' => answers.push("T".into()),
                // A schema of temporary tables has a number.
                _ => {
                    let text = body.escape_ascii().to_string();
                    let mut parts = text.split("pg_temp_");
                    let mut answer = format!("{} {}", char::from(tag), parts.next().unwrap_or_default());
                    parts.for_each(|part| answer += part.trim_start_matches(|c: char| c.is_ascii_digit()));
                    answers.push(answer);
                }
            }
        }
        answers
    }
}
