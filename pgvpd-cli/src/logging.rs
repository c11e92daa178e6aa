//! The log: lines for people or JSON, to standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use anyhow::Context as _;
use pgvpd_core::config::LogFormat;
use pgvpd_core::{Config, ConfigError, Problem};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::log_text::Fields;
use crate::log_writer::{self, Flush, LostLines};

/// Checks the filter, which only this part of the program understands.
pub(crate) fn filter(config: &Config) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.log_level).map_err(|error| {
        ConfigError::from(Problem {
            option: Some("log_level".into()),
            origin: config.settings().origin("log_level").cloned(),
            message: format!("{:?} is not a valid filter: {error}", config.log_level),
        })
    })
}

/// The installed log, whose level can be changed.
#[derive(Clone)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    lost: LostLines,
}

impl Log {
    /// Installs the log for the process. It ends when the [`Flush`] is dropped.
    pub(crate) fn install(config: &Config) -> anyhow::Result<(Self, Flush)> {
        let (filter, handle) = reload::Layer::new(filter(config)?);
        let (lines, flush, lost) = log_writer::start(std::io::stderr());
        let log = tracing_subscriber::registry().with(filter);
        let installed = match config.log_format {
            LogFormat::Text => log.with(text(lines, std::io::stderr().is_terminal())).try_init(),
            LogFormat::Json => log.with(SessionNumbers).with(json(lines)).try_init(),
        };
        installed.context("cannot install the log")?;
        std::panic::set_hook(Box::new(log_panic));
        Ok((Self { filter: handle, lost }, flush))
    }

    /// How many lines are not in it, since the start.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost.total()
    }

    /// Takes the level of this configuration, which [`filter`] has checked.
    pub(crate) fn adapt(&self, config: &Config) {
        if let Ok(filter) = filter(config) {
            let _ = self.filter.reload(filter);
        }
    }
}

/// Logs a panic. The standard library's own hook writes to standard error itself, and would wait for whoever reads it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let location = panic.location().map(ToString::to_string);
    let payload = panic.payload();
    let message =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("?");
    tracing::error!(location, backtrace, error = message, "a thread panicked: this is a bug in pgvpd");
}

/// Lines for people.
fn text<S, W>(writer: W, with_colors: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Errors would be reported to standard error, too, and panic where nobody reads that any more.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(with_colors);
    layer.fmt_fields(Fields).log_internal_errors(false)
}

/// One object a line, everything at its top level: what an event says, and the session that it is about.
fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let mut layer = json_subscriber::fmt::layer()
        .with_writer(writer)
        .log_internal_errors(false)
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    layer.inner_layer_mut().add_from_extension("session", |number: &SessionNumber| Some(number.0));
    layer
}

/// Keeps the number of the session that a span is about, for [`json`].
struct SessionNumbers;

/// That number.
struct SessionNumber(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SessionNumbers {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = Found(None);
        attributes.record(&mut found);
        if let (Some(number), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(SessionNumber(number));
        }
    }
}

/// The field `session`, if it has come by.
struct Found(Option<u64>);

impl Visit for Found {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "session" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    #[test]
    fn a_json_line_has_all_at_its_top_level_whatever_the_values_are() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = tracing_subscriber::registry().with(SessionNumbers).with(json(move || writer.clone()));
        tracing::subscriber::with_default(log, || {
            let hostile = "a\"b\n\u{1b}[2J\u{0}\\";
            tracing::error_span!("session", session = 17_u64).in_scope(|| {
                tracing::info!(tenant = hostile, client = %hostile, error = ?hostile, duration = 1.5, "started {hostile}");
            });
            tracing::warn!("no session");
        });
        let text = buffer.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        let [first, second] = lines.as_slice() else { panic!("{text}") };
        assert_eq!((&first["session"], &first["level"], &first["duration"]), (&17.into(), &"INFO".into(), &1.5.into()));
        assert_eq!(first["tenant"], "a\"b\n\u{1b}[2J\u{0}\\");
        for key in ["timestamp", "target", "message", "client", "error"] {
            assert!(first[key].is_string(), "{key} in {first}");
        }
        let keys: Vec<_> = first.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected =
            ["client", "duration", "error", "level", "message", "session", "target", "tenant", "timestamp"];
        expected.sort_unstable();
        let mut found = keys;
        found.sort_unstable();
        assert_eq!(found, expected);
        assert!(second.get("session").is_none() && second["message"] == "no session", "{second}");
    }

    #[test]
    fn a_line_for_people_names_the_session() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = tracing_subscriber::registry().with(text(move || writer.clone(), false));
        tracing::subscriber::with_default(log, || {
            tracing::error_span!("session", session = 17_u64).in_scope(|| tracing::info!(tenant = "acme", "started"));
        });
        let text = buffer.text();
        assert!(text.contains("session{session=17}: ") && text.contains("started tenant=\"acme\""), "{text}");
    }
}
