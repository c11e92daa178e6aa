//! A server for tests that answers `auth_query` as it is told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{Config, Settings};
use crate::net::{Conn, Socket};
use crate::wire::{FirstPacket, Parsed, Reader, StartupMessage, first_packet, frame, tag};

/// What becomes of a question.
pub(super) enum Reply {
    Bytes(Vec<u8>),
    Silence,
    Close,
}

type Answers = Box<dyn Fn(&str) -> Reply + Send>;

pub(super) struct FakeServer {
    pub(super) port: u16,
    shared: Arc<Mutex<State>>,
    _stop: DropGuard,
}

struct State {
    answers: Answers,
    startups: Vec<StartupMessage>,
    /// Queries, each with the role that it was asked for.
    questions: Vec<(String, String)>,
    /// Cancelled, it closes the connections that are open.
    open: CancellationToken,
}

impl FakeServer {
    pub(super) async fn start(answers: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Mutex::new(State {
            answers: Box::new(answers),
            startups: vec![],
            questions: vec![],
            open: CancellationToken::new(),
        }));
        let stop = CancellationToken::new();
        let (stopped, state) = (stop.clone(), Arc::clone(&shared));
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = state.lock().expect("state").open.clone();
                let conn = Conn::new(Socket::accepted(stream, &crate::net::TcpTimes::default()).expect("options"));
                tokio::spawn(open.run_until_cancelled_owned(serve(conn, Arc::clone(&state))));
            }
        }));
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// Answers with these verifiers, and with no row for other roles.
    pub(super) async fn with(verifiers: &[(&'static str, &'static str)]) -> Self {
        let verifiers = verifiers.to_vec();
        Self::start(move |role| {
            let row = verifiers.iter().find(|(known, _)| *known == role);
            let columns = row.map(|(role, verifier)| [Some(*role), Some(*verifier)]);
            answer(columns.as_ref().map(|columns| &columns[..]).as_slice())
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("state")
    }

    pub(super) fn answer_with(&self, answers: impl Fn(&str) -> Reply + Send + 'static) {
        self.state().answers = Box::new(answers);
    }

    /// Leaves the next question without an answer, and answers later ones in this way.
    pub(super) fn skip_one(&self, answers: impl Fn(&str) -> Reply + Send + 'static) {
        let is_first = AtomicBool::new(true);
        self.answer_with(
            move |role| {
                if is_first.swap(false, Ordering::Relaxed) { Reply::Silence } else { answers(role) }
            },
        );
    }

    pub(super) fn close_connections(&self) {
        std::mem::take(&mut self.state().open).cancel();
    }

    pub(super) fn startups(&self) -> Vec<StartupMessage> {
        self.state().startups.clone()
    }

    pub(super) fn questions(&self) -> Vec<(String, String)> {
        self.state().questions.clone()
    }

    /// A configuration that asks here, with these options besides.
    pub(super) fn config(&self, options: &[(&str, &str)]) -> Config {
        let mut settings = Settings::new();
        let port = self.port.to_string();
        let own = [("upstream_port", &*port), ("pool_mode", "session"), ("auth_user", "asker"), ("auth_dbname", "a")];
        for (option, value) in own.iter().chain(options) {
            settings.set(option, *value).expect("known");
        }
        Config::from_settings(settings).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The whole answer to a query that gives these rows.
pub(super) fn answer(rows: &[&[Option<&str>]]) -> Reply {
    let mut out = b"1\0\0\0\x042\0\0\0\x04".to_vec();
    for row in rows {
        let mut body = i16::try_from(row.len()).expect("few").to_be_bytes().to_vec();
        for column in *row {
            let size = column.map_or(-1, |text| i32::try_from(text.len()).expect("short"));
            body.extend(size.to_be_bytes());
            body.extend(column.unwrap_or_default().as_bytes());
        }
        out.push(tag::DATA_ROW);
        out.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        out.extend(body);
    }
    out.extend(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
    Reply::Bytes(out)
}

async fn serve(mut conn: Conn<Socket>, state: Arc<Mutex<State>>) {
    let mut asked = (String::new(), String::new());
    let mut is_started = false;
    loop {
        let size = if is_started {
            match frame(conn.received(), 10_000).expect("valid") {
                Parsed::Complete(found, size) => {
                    match found.tag {
                        tag::PARSE => asked.0 = text(found.body.split(|&byte| byte == 0).nth(1)),
                        tag::BIND => asked.1 = parameter(found.body).expect("one parameter"),
                        tag::SYNC => {
                            let reply = {
                                let mut state = state.lock().expect("state");
                                state.questions.push(std::mem::take(&mut asked));
                                (state.answers)(&state.questions.last().expect("pushed").1)
                            };
                            match reply {
                                Reply::Bytes(bytes) => conn.queue(&bytes),
                                Reply::Silence => {}
                                Reply::Close => return,
                            }
                        }
                        _ => {}
                    }
                    size
                }
                Parsed::Incomplete => 0,
            }
        } else {
            match first_packet(conn.received()).expect("valid") {
                Parsed::Complete(FirstPacket::Startup(message), size) => {
                    is_started = true;
                    state.lock().expect("state").startups.push(message);
                    conn.queue(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
                    size
                }
                _ => 0,
            }
        };
        conn.consume(size);
        if conn.flush().await.is_err() || (size == 0 && !matches!(conn.fill().await, Ok(n) if n > 0)) {
            return;
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.expect("a field").into()).expect("UTF-8")
}

/// The only parameter of a Bind message, in text form.
fn parameter(bind: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bind);
    reader.string()?;
    reader.string()?;
    assert_eq!((reader.i16()?, reader.i16()?), (0, 1));
    let size = usize::try_from(reader.i32()?).ok()?;
    Some(text(reader.bytes(size)))
}
