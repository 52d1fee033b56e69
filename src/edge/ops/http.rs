//! Answers of the client port to HTTP/1: `/version`, `/health`, `/livez`, `/readyz`, `/metrics`, and etcd's 404
//! for the rest.
//!
//! Pure: a request line and a [`Status`] in, a [`Step`] out. Where the answer depends on a linearizable read,
//! the step says so and the caller comes back with the read's result.

use super::logging::civil_date;
use super::metrics::CONTENT_TYPE;

/// An alarm that is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The quota is used up.
    NoSpace,
    /// Members' data differ.
    Corrupt,
    /// One of a later version.
    Unknown,
}

impl Alarm {
    /// Its name on the wire.
    fn name(self) -> &'static str {
        match self {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
            Alarm::Unknown => "UNKNOWN",
        }
    }
}

/// What the answers depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// As in `3.7.0`; `None` until it is decided.
    pub cluster_version: Option<String>,
    /// Active alarms in the order in which they are listed.
    pub alarms: Vec<Alarm>,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// Whether this member has no vote.
    pub is_learner: bool,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Send this.
    Answer(Response),
    /// Send [`metrics`] with the text of a scrape.
    NeedsMetrics,
    /// Make a linearizable read of nothing in particular and come back with its result.
    NeedsRead(Waiting),
}

/// A request that waits for its read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting(Question);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    Health,
    Checks { kind: &'static str, names: Vec<&'static str>, verbose: bool, status: Status },
}

impl Waiting {
    /// The answer, given the read's result; an error is the text of its gRPC status, such as
    /// `etcdserver: request timed out`.
    pub fn finish(self, read: Result<(), &str>) -> Response {
        match self.0 {
            Question::Health => health_response(read.err().map(|error| format!("RANGE ERROR:{error}"))),
            Question::Checks { kind, names, verbose, status } => {
                checks_response(kind, &names, verbose, &status, read)
            }
        }
    }
}

/// An answer. Header lines that any answer has are [`COMMON_HEADERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// As in 200.
    pub code: u16,
    /// Names and values, besides those that every answer has.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether `/health` was found good; for [`HealthCounters::record`].
    health: Option<bool>,
    /// Checks made; likewise.
    checks: Vec<(&'static str, &'static str, bool)>,
}

const TEXT: (&str, &str) = ("Content-Type", "text/plain; charset=utf-8");
const NO_SNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");

const LIVEZ: &str = "livez";
const READYZ: &str = "readyz";
const DATA_CORRUPTION: &str = "data_corruption";
const SERIALIZABLE_READ: &str = "serializable_read";
const LINEARIZABLE_READ: &str = "linearizable_read";
const NON_LEARNER: &str = "non_learner";
const READYZ_CHECKS: [&str; 4] = [DATA_CORRUPTION, SERIALIZABLE_READ, LINEARIZABLE_READ, NON_LEARNER];
const LIVEZ_CHECKS: [&str; 1] = [SERIALIZABLE_READ];

/// Decides about a request; `target` is what stands in its first line: path and query.
pub fn handle(method: &str, target: &str, status: &Status) -> Step {
    let target = path_of(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Answered for any path: a browser asks before its request.
    if method == "OPTIONS" {
        return Step::Answer(Response::new(200, vec![], Vec::new()));
    }
    let (kind, check) = match path {
        "/metrics" => return Step::NeedsMetrics,
        "/version" => return only_get(method, || Step::Answer(version(status))),
        "/health" => return only_get(method, || health(query, status)),
        _ => match path.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some(parts) => parts,
            None => return not_found(),
        },
    };
    let (kind, all): (_, &[&'static str]) = match kind {
        LIVEZ => (LIVEZ, &LIVEZ_CHECKS),
        READYZ => (READYZ, &READYZ_CHECKS),
        _ => return not_found(),
    };
    let root = path.len() == kind.len() + 1;
    let excluded = if root { values(query, "exclude") } else { Vec::new() };
    let names: Vec<&'static str> = all
        .iter()
        .copied()
        .filter(|name| if root { !excluded.iter().any(|e| e == name) } else { *name == check })
        .collect();
    if !root && names.is_empty() {
        return not_found();
    }
    only_get(method, || checks(kind, names, query, status))
}

/// The answer to `/metrics`.
pub fn metrics(text: String) -> Response {
    Response::new(200, vec![("Content-Type", CONTENT_TYPE)], text.into_bytes())
}

/// A proxy's form of the first line names the host, too.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

fn not_found() -> Step {
    Step::Answer(error(404, "404 page not found"))
}

/// Go's form of an error: the text and a newline.
fn error(code: u16, text: &str) -> Response {
    Response::new(code, vec![TEXT, NO_SNIFF], format!("{text}\n").into_bytes())
}

fn only_get(method: &str, answer: impl FnOnce() -> Step) -> Step {
    if method == "GET" {
        return answer();
    }
    let mut response = error(405, "Method Not Allowed");
    response.headers.insert(0, ("Allow", "GET"));
    Step::Answer(response)
}

fn version(status: &Status) -> Response {
    let cluster = status.cluster_version.as_deref();
    let body = format!(
        "{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{}\",\"storage\":\"{}\"}}",
        super::ETCD_VERSION,
        cluster.unwrap_or("not_decided"),
        // The storage follows the cluster at once.
        cluster.unwrap_or("unknown"),
    );
    Response::new(200, vec![("Content-Type", "application/json")], body.into_bytes())
}

/// Alarms, then the leader, then a read; the local form asks neither for a leader nor for other members.
fn health(query: &str, status: &Status) -> Step {
    let excluded = values(query, "exclude");
    let alarm = status.alarms.iter().find(|alarm| !excluded.iter().any(|name| name == alarm.name()));
    if let Some(alarm) = alarm {
        return Step::Answer(health_response(Some(format!("ALARM {}", alarm.name()))));
    }
    if values(query, "serializable").first().is_some_and(|value| value == "true") {
        return Step::Answer(health_response(None));
    }
    if !status.has_leader {
        return Step::Answer(health_response(Some("RAFT NO LEADER".to_owned())));
    }
    Step::NeedsRead(Waiting(Question::Health))
}

fn health_response(bad: Option<String>) -> Response {
    let good = bad.is_none();
    let reason = serde_json::Value::from(bad.unwrap_or_default());
    let text = format!("{{\"health\":\"{good}\",\"reason\":{reason}}}");
    let mut response =
        if good { Response::new(200, vec![TEXT], text.into_bytes()) } else { error(503, &text) };
    response.health = Some(good);
    response
}

fn checks(kind: &'static str, names: Vec<&'static str>, query: &str, status: &Status) -> Step {
    let verbose = has(query, "verbose");
    if names.contains(&LINEARIZABLE_READ) {
        let status = status.clone();
        return Step::NeedsRead(Waiting(Question::Checks { kind, names, verbose, status }));
    }
    Step::Answer(checks_response(kind, &names, verbose, status, Ok(())))
}

fn checks_response(
    kind: &'static str,
    names: &[&'static str],
    verbose: bool,
    status: &Status,
    read: Result<(), &str>,
) -> Response {
    let mut report = String::new();
    let mut checks = Vec::with_capacity(names.len());
    for name in names {
        let failure = match *name {
            DATA_CORRUPTION => status.alarms.contains(&Alarm::Corrupt).then_some("alarm activated: CORRUPT"),
            NON_LEARNER => status.is_learner.then_some("not supported for learner"),
            LINEARIZABLE_READ => read.err(),
            // A local read is one of memory: a server that answers can do it.
            _ => None,
        };
        match failure {
            Some(reason) => report.push_str(&format!("[-]{name} failed: {reason}\n")),
            None => report.push_str(&format!("[+]{name} ok\n")),
        }
        checks.push((kind, *name, failure.is_none()));
    }
    let mut response = if checks.iter().any(|(_, _, passed)| !passed) {
        error(503, &report)
    } else {
        let body = if verbose { format!("{report}ok\n") } else { "ok\n".to_owned() };
        Response::new(200, vec![TEXT, NO_SNIFF], body.into_bytes())
    };
    response.checks = checks;
    response
}

/// All values of a query's key that are not empty, decoded.
fn values(query: &str, key: &str) -> Vec<String> {
    pairs(query).filter(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value).collect()
}

fn has(query: &str, key: &str) -> bool {
    pairs(query).any(|(name, _)| name == key)
}

/// Pairs of a query; as Go does, one with a semicolon or a bad escape is dropped.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape(name)?, unescape(value)?))
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next()? as char, rest.next()? as char);
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Response {
    fn new(code: u16, headers: Vec<(&'static str, &'static str)>, body: Vec<u8>) -> Response {
        Response { code, headers, body, health: None, checks: Vec::new() }
    }
}

/// Header lines that every answer has: any browser may come, etcd's default for `--cors`.
pub const COMMON_HEADERS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
    ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("Access-Control-Allow-Origin", "*"),
];

/// As in `Sat, 21 Nov 2026 12:10:16 GMT` (RFC 9110, section 5.6.7).
pub fn date(unix_seconds: u64) -> String {
    // The first day of 1970 was a Thursday.
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or_default()];
    let month = MONTHS[usize::try_from(month - 1).unwrap_or_default()];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Results of health requests since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCounters {
    /// `/health` found good.
    pub good: u64,
    /// `/health` found bad.
    pub bad: u64,
    livez: [CheckCounts; LIVEZ_CHECKS.len()],
    readyz: [CheckCounts; READYZ_CHECKS.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CheckCounts {
    passed: u64,
    failed: u64,
    passed_last: bool,
}

/// One check of `/livez` or `/readyz` and its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckResults {
    /// `livez` or `readyz`.
    pub kind: &'static str,
    /// As in `serializable_read`.
    pub name: &'static str,
    /// How often it passed.
    pub passed_count: u64,
    /// How often it failed.
    pub failed_count: u64,
    /// Its last result.
    pub passed_last: bool,
}

impl HealthCounters {
    /// Adds another shard's.
    pub fn add(&mut self, other: &HealthCounters) {
        self.good += other.good;
        self.bad += other.bad;
        let checks = self.livez.iter_mut().chain(&mut self.readyz);
        for (check, more) in checks.zip(other.livez.iter().chain(&other.readyz)) {
            // Which shard's was the last is not known: a failure counts.
            check.passed_last = match (check.passed + check.failed, more.passed + more.failed) {
                (0, _) => more.passed_last,
                (_, 0) => check.passed_last,
                _ => check.passed_last && more.passed_last,
            };
            check.passed += more.passed;
            check.failed += more.failed;
        }
    }

    /// Counts what an answer has found.
    pub fn record(&mut self, response: &Response) {
        match response.health {
            Some(true) => self.good += 1,
            Some(false) => self.bad += 1,
            None => {}
        }
        for (kind, name, passed) in &response.checks {
            let (counts, names): (&mut [CheckCounts], &[&str]) = if *kind == LIVEZ {
                (&mut self.livez, &LIVEZ_CHECKS)
            } else {
                (&mut self.readyz, &READYZ_CHECKS)
            };
            for (count, _) in counts.iter_mut().zip(names).filter(|(_, other)| *other == name) {
                count.passed += u64::from(*passed);
                count.failed += u64::from(!passed);
                count.passed_last = *passed;
            }
        }
    }

    /// All checks.
    pub fn checks(&self) -> impl Iterator<Item = CheckResults> + '_ {
        let livez = LIVEZ_CHECKS.iter().zip(&self.livez).map(|(name, counts)| (LIVEZ, *name, counts));
        let readyz = READYZ_CHECKS.iter().zip(&self.readyz).map(|(name, counts)| (READYZ, *name, counts));
        livez.chain(readyz).map(|(kind, name, counts)| CheckResults {
            kind,
            name,
            passed_count: counts.passed,
            failed_count: counts.failed,
            passed_last: counts.passed_last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Status {
        Status { cluster_version: Some("3.7.0".to_owned()), has_leader: true, ..Status::default() }
    }

    /// Code, content type and body; a read asked for ends with `read`.
    fn ask(method: &str, target: &str, status: &Status, read: Result<(), &str>) -> (u16, String, String) {
        let response = match handle(method, target, status) {
            Step::Answer(response) => response,
            Step::NeedsMetrics => metrics("m 1\n".to_owned()),
            Step::NeedsRead(waiting) => waiting.finish(read),
        };
        let content_type =
            response.headers.iter().find(|(name, _)| *name == "Content-Type").map_or("", |(_, value)| value);
        (response.code, content_type.to_owned(), String::from_utf8(response.body).unwrap())
    }

    fn body(target: &str, status: &Status) -> (u16, String) {
        let (code, _, body) = ask("GET", target, status, Ok(()));
        (code, body)
    }

    #[test]
    fn versions() {
        let (code, content_type, text) = ask("GET", "/version", &good(), Ok(()));
        assert_eq!((code, content_type.as_str()), (200, "application/json"));
        assert_eq!(text, r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
        let text = body("/version", &Status::default()).1;
        assert_eq!(text, r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}"#);
    }

    #[test]
    fn health_in_its_order() {
        let fine = (200, r#"{"health":"true","reason":""}"#.to_owned());
        let bad = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
        assert!(matches!(handle("GET", "/health", &good()), Step::NeedsRead(_)));
        assert_eq!(body("/health", &good()), fine);
        let timed_out = ask("GET", "/health", &good(), Err("etcdserver: request timed out"));
        assert_eq!((timed_out.0, timed_out.2), bad("RANGE ERROR:etcdserver: request timed out"));

        let alone = Status { has_leader: false, ..good() };
        assert_eq!(body("/health", &alone), bad("RAFT NO LEADER"));
        assert!(matches!(handle("GET", "/health?serializable=true", &alone), Step::Answer(_)));
        assert_eq!(body("/health?serializable=true", &alone), fine);
        assert_eq!(body("/health?serializable=1", &alone), bad("RAFT NO LEADER"));

        let full = Status { alarms: vec![Alarm::NoSpace, Alarm::Corrupt], ..good() };
        assert_eq!(body("/health", &full), bad("ALARM NOSPACE"));
        assert_eq!(body("/health?exclude=NOSPACE&exclude=x", &full), bad("ALARM CORRUPT"));
        assert_eq!(body("/health?exclude=NOSPACE&exclude=CORRUPT", &full), fine);
        assert_eq!(body("/health?exclude=NOSPAC%45&serializable=true", &full), bad("ALARM CORRUPT"));
    }

    #[test]
    fn liveness_and_readiness() {
        assert_eq!(body("/livez", &good()), (200, "ok\n".to_owned()));
        assert_eq!(body("/livez?verbose", &good()), (200, "[+]serializable_read ok\nok\n".to_owned()));
        assert!(matches!(handle("GET", "/livez", &good()), Step::Answer(_)));
        assert!(matches!(handle("GET", "/readyz", &good()), Step::NeedsRead(_)));
        assert!(matches!(handle("GET", "/readyz?exclude=linearizable_read", &good()), Step::Answer(_)));
        assert_eq!(body("/readyz", &good()), (200, "ok\n".to_owned()));
        let verbose = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
        assert_eq!(body("/readyz?verbose=", &good()), (200, verbose.to_owned()));
        assert_eq!(body("/readyz/non_learner?verbose", &good()), (200, "[+]non_learner ok\nok\n".to_owned()));
        let learner = Status { is_learner: true, alarms: vec![Alarm::Corrupt, Alarm::NoSpace], ..good() };
        let (code, content_type, text) = ask("GET", "/readyz", &learner, Err("etcdserver: no leader"));
        assert_eq!((code, content_type.as_str()), (503, "text/plain; charset=utf-8"));
        assert_eq!(
            text,
            "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
             [-]linearizable_read failed: etcdserver: no leader\n[-]non_learner failed: not supported for learner\n\n"
        );
        let some = "/readyz?exclude=data_corruption&exclude=non_learner&exclude=unknown";
        assert_eq!(body(some, &learner), (200, "ok\n".to_owned()));
        // Excluding is for the whole only.
        assert_eq!(body("/readyz/non_learner?exclude=non_learner", &learner).0, 503);
        for path in ["/livez/non_learner", "/readyz/x", "/readyz/", "/livez/serializable_read/", "/livezx"] {
            assert_eq!(body(path, &good()).0, 404, "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods() {
        for path in ["/", "/nope", "/version/", "/health/", "/members", "/v2/keys", "/v3/kv/range", "*"] {
            let (code, content_type, text) = ask("GET", path, &good(), Ok(()));
            assert_eq!((code, content_type.as_str()), (404, "text/plain; charset=utf-8"), "{path}");
            assert_eq!(text, "404 page not found\n");
        }
        for path in ["/version", "/health", "/livez", "/readyz", "/readyz/non_learner"] {
            for method in ["POST", "HEAD", "PUT"] {
                let Step::Answer(response) = handle(method, path, &good()) else { panic!("{method} {path}") };
                assert_eq!(response.code, 405, "{method} {path}");
                assert_eq!(response.headers, [("Allow", "GET"), TEXT, NO_SNIFF]);
                assert_eq!(response.body, b"Method Not Allowed\n");
            }
        }
        assert_eq!(ask("POST", "/metrics", &good(), Ok(())).1, CONTENT_TYPE);
        assert_eq!(ask("OPTIONS", "/nope", &good(), Ok(())), (200, String::new(), String::new()));
        assert_eq!(body("http://127.0.0.1:2379/version", &good()).0, 200);
    }

    /// What a real etcd answers to the same request.
    #[test]
    fn other_paths_are_etcds_404() {
        let Step::Answer(response) = handle("GET", "/nope", &good()) else { panic!("no answer") };
        assert_eq!((response.code, response.body.as_slice()), (404, &b"404 page not found\n"[..]));
        let fields = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")];
        assert_eq!(response.headers, fields);
        assert_eq!(date(1_795_263_016), "Sat, 21 Nov 2026 12:10:16 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn results_are_counted() {
        let mut counters = HealthCounters::default();
        let learner = Status { is_learner: true, ..good() };
        for (target, status) in [("/health", good()), ("/health", Status::default()), ("/readyz", learner)] {
            let response = match handle("GET", target, &status) {
                Step::Answer(response) => response,
                Step::NeedsRead(waiting) => waiting.finish(Ok(())),
                Step::NeedsMetrics => panic!("not asked for"),
            };
            counters.record(&response);
        }
        assert_eq!((counters.good, counters.bad), (1, 1));
        let failed: Vec<&str> = counters.checks().filter(|c| c.failed_count == 1).map(|c| c.name).collect();
        assert_eq!(failed, ["non_learner"]);
        assert_eq!(counters.checks().filter(|c| c.passed_count == 1 && c.passed_last).count(), 3);
    }
}
