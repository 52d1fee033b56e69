//! The log, line by line in the form that etcd's (zap's) has.
//!
//! A field `data_dir` is written `data-dir`, as etcd names its own; a list given as `?list` becomes a JSON
//! array; an event with the target [`FATAL`] gets that level.

use crate::edge::clock::Clock;
use crate::edge::pick::Kind;
use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::config::{Config, ListenTarget, LogConfig, LogFormat, LogLevel};
use super::signals::Signal;

/// Target of events that end the process.
pub const FATAL: &str = "fatal";

/// Directs the log to standard error. Only the first call of a process counts: tests start several.
pub fn set_up(config: LogConfig) {
    let level = match config.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
    };
    let result = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .event_format(Lines { config })
        .try_init();
    if result.is_err() {
        tracing::debug!("the log was set up before");
    }
}

/// Says what is being started; the caller has not touched disk or network yet.
pub fn announce_start(config: &Config) {
    let addresses: Vec<&str> = config.listen_client.iter().map(|listen| listen.url.as_str()).collect();
    tracing::info!(
        etcd_version = super::ETCD_VERSION,
        etchd_version = env!("CARGO_PKG_VERSION"),
        name = %config.name,
        data_dir = %config.data_dir.display(),
        listen_client_urls = ?addresses,
        advertise_client_urls = ?config.advertise_client_urls,
        "starting etchd"
    );
}

/// Says which edge serves and which of the kernel's fast paths it uses.
pub fn announce_io(kind: Kind, fast_paths: &[(&'static str, bool)]) {
    let named =
        |used| -> Vec<&str> { fast_paths.iter().filter(|path| path.1 == used).map(|path| path.0).collect() };
    tracing::info!(io = kind.name(), in_use = ?named(true), not_in_use = ?named(false), "fast paths of the kernel");
}

/// Says, once for each address, what scripts wait for; then where the data is and how to try it.
///
/// `addresses` are the bound ones, a chosen port in place of 0: `127.0.0.1:2379` or a socket file's path.
pub fn announce_ready(config: &Config, addresses: &[String]) {
    for address in addresses {
        tracing::info!(address = %address, "ready to serve client requests");
    }
    let data_dir = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    tracing::info!("data is in {}", data_dir.display());
    let endpoint = match (addresses.first(), config.listen_client.first().map(|listen| &listen.target)) {
        (Some(path), Some(ListenTarget::Unix(_))) => format!("unix://{path}"),
        (Some(address), _) => address.replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1"),
        (None, _) => return,
    };
    tracing::info!("try it: etcdctl --endpoints={endpoint} put hello world");
}

/// Says that a signal ends the server; the graceful part begins.
pub fn announce_stop(signal: Signal) {
    tracing::info!(signal = signal.name(), "received signal; shutting down");
}

struct Lines {
    config: LogConfig,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if self.config.level == LogLevel::Fatal && metadata.target() != FATAL {
            return Ok(());
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = Clock.unix_time();
        let time = timestamp(now.as_secs(), now.subsec_micros());
        let line = line(self.config.format, &time, level_name(metadata), &caller(metadata), &fields);
        writer.write_str(&line)
    }
}

fn level_name(metadata: &Metadata<'_>) -> &'static str {
    if metadata.target() == FATAL {
        return "fatal";
    }
    match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Folder, file and line, such as `ops/mod.rs:42`.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or_default();
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(position, _)| position + 1);
    format!("{}:{}", &file[start..], metadata.line().unwrap_or_default())
}

/// Message and fields of an event, in their order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
        } else {
            self.others.push((field.name().replace('_', "-"), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // A list of texts prints as JSON does, unless it has unusual characters; then it stays a text.
        let value = match serde_json::from_str::<Vec<String>>(&text) {
            Ok(list) if field.name() != "message" => Value::from(list),
            _ => Value::from(text),
        };
        self.add(field, value);
    }
}

fn line(format: LogFormat, time: &str, level: &str, caller: &str, fields: &Fields) -> String {
    let mut line = String::with_capacity(160);
    match format {
        LogFormat::Json => {
            line.push_str("{\"level\":\"");
            line.push_str(level);
            line.push_str("\",\"ts\":\"");
            line.push_str(time);
            line.push_str("\",\"caller\":");
            line.push_str(&Value::from(caller).to_string());
            line.push_str(",\"msg\":");
            line.push_str(&Value::from(fields.message.as_str()).to_string());
            for (name, value) in &fields.others {
                line.push(',');
                line.push_str(&Value::from(name.as_str()).to_string());
                line.push(':');
                line.push_str(&value.to_string());
            }
            line.push('}');
        }
        LogFormat::Console => {
            for column in [time, level, caller] {
                line.push_str(column);
                line.push('\t');
            }
            line.push_str(&fields.message);
            for (position, (name, value)) in fields.others.iter().enumerate() {
                line.push_str(if position == 0 { "\t{" } else { ", " });
                line.push_str(&Value::from(name.as_str()).to_string());
                line.push_str(": ");
                line.push_str(&value.to_string());
            }
            if !fields.others.is_empty() {
                line.push('}');
            }
        }
    }
    line.push('\n');
    line
}

/// `2006-01-02T15:04:05.000000Z`.
fn timestamp(unix_seconds: u64, microseconds: u32) -> String {
    let (year, month, day) = civil_date(unix_seconds / 86_400);
    let second = unix_seconds % 86_400;
    let mut text = String::with_capacity(27);
    let written = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{microseconds:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    text
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Counts from March so
/// that the leap day is a year's last, within cycles of 400 years (146,097 days).
pub(super) fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "a \"b\"".to_owned(),
            others: vec![
                ("data-dir".to_owned(), Value::from("x")),
                ("urls".to_owned(), Value::from(vec!["u", "v"])),
            ],
        }
    }

    #[test]
    fn json_line() {
        let line = line(LogFormat::Json, "T", "info", "ops/mod.rs:1", &fields());
        assert_eq!(
            line,
            "{\"level\":\"info\",\"ts\":\"T\",\"caller\":\"ops/mod.rs:1\",\"msg\":\"a \\\"b\\\"\",\
             \"data-dir\":\"x\",\"urls\":[\"u\",\"v\"]}\n"
        );
        assert!(serde_json::from_str::<Value>(&line).is_ok());
    }

    #[test]
    fn console_line() {
        let line = line(LogFormat::Console, "T", "warn", "ops/mod.rs:1", &fields());
        assert_eq!(line, "T\twarn\tops/mod.rs:1\ta \"b\"\t{\"data-dir\": \"x\", \"urls\": [\"u\",\"v\"]}\n");
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(timestamp(1_795_263_013, 699_000), "2026-11-21T12:10:13.699000Z");
        assert_eq!(timestamp(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
