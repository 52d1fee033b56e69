//! The head of a gRPC request: which fields count, and the verdict on them in grpc-go's order
//! (`operateHeaders` and `handleStream` of 1.83).

use std::sync::Arc;
use std::time::Duration;

use super::status::{Code, Status, quote};
use crate::limits::http2::{CONTENT_SUBTYPE_BYTES_MAX, KEPT_CAPACITY_BYTES};
use crate::pure::wire::hpack::FieldSink;
use crate::stdx::time::Monotonic;

/// How many messages go each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpcKind {
    /// One each way.
    #[default]
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many requests; one answer or many.
    ClientStream,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// An RPC, by the number that the application gives it.
    Rpc {
        /// Comes back in events.
        route: u16,
        /// Its kind.
        kind: RpcKind,
    },
    /// The service exists, the method doesn't.
    UnknownMethod,
    /// The service doesn't exist.
    UnknownService,
}

/// Finds the RPC of a path of the form `/service/method`. Asked once for each path that enters the
/// HPACK table.
pub type Resolver = fn(path: &[u8]) -> Resolved;

/// Metadata that the application looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// From grpc-timeout.
    pub deadline: Option<Monotonic>,
    /// `hasleader: true`.
    pub require_leader: bool,
    /// `grpcgateway-accept` is there: certificate names don't count.
    pub via_gateway: bool,
    /// There when one of them came.
    pub texts: Option<Arc<Texts>>,
}

/// Values of metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// `client-api-version`, as it came.
    pub client_version: Option<Arc<[u8]>>,
    /// `token`, as it came.
    pub token: Option<Arc<[u8]>>,
    /// `authorization`, as it came.
    pub authorization: Option<Arc<[u8]>>,
}

impl Meta {
    /// `client-api-version`, as it came.
    pub fn client_version(&self) -> Option<&[u8]> {
        self.texts.as_ref()?.client_version.as_deref()
    }

    /// Bytes of its values.
    pub fn text_bytes(&self) -> usize {
        let Some(texts) = &self.texts else { return 0 };
        let all = [&texts.client_version, &texts.token, &texts.authorization];
        all.into_iter().flatten().map(|text| text.len()).sum()
    }
}

/// How the client encodes its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Plain.
    #[default]
    Identity,
    /// By gzip, and so are the answers.
    Gzip,
}

/// A head that passed.
#[derive(Debug)]
pub struct Accepted {
    /// The RPC.
    pub route: u16,
    /// Its kind.
    pub kind: RpcKind,
    /// Of the request's messages.
    pub encoding: Encoding,
    /// What follows `application/grpc+`, to be echoed; mostly empty.
    pub subtype: Box<[u8]>,
    /// For the application.
    pub meta: Meta,
}

/// A head that didn't pass: the answer to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// `:status`.
    pub http_status: u16,
    /// grpc-status and grpc-message.
    pub status: Status,
    /// As in `Accepted`.
    pub subtype: Box<[u8]>,
}

/// What one field is to gRPC; with its value that makes an application tag of 24 bits.
mod mark {
    pub const NONE: u32 = 0;
    pub const PATH: u32 = 1;
    pub const PATH_UNKNOWN_METHOD: u32 = 2;
    pub const PATH_UNKNOWN_SERVICE: u32 = 3;
    pub const PATH_MALFORMED: u32 = 4;
    pub const METHOD: u32 = 5;
    pub const METHOD_POST: u32 = 6;
    pub const CONTENT_TYPE: u32 = 7;
    pub const CONTENT_TYPE_SUBTYPE: u32 = 8;
    pub const CONTENT_TYPE_INVALID: u32 = 9;
    pub const ENCODING_IDENTITY: u32 = 10;
    pub const ENCODING_GZIP: u32 = 11;
    pub const ENCODING_OTHER: u32 = 12;
    pub const TIMEOUT: u32 = 13;
    pub const REQUIRE_LEADER: u32 = 14;
    pub const REQUIRE_LEADER_OTHER: u32 = 15;
    pub const CLIENT_VERSION: u32 = 16;
    pub const TOKEN: u32 = 17;
    pub const AUTHORIZATION: u32 = 18;
    pub const VIA_GATEWAY: u32 = 19;
    pub const AUTHORITY: u32 = 20;
    pub const HOST: u32 = 21;
    pub const BINARY_INVALID: u32 = 22;
}
/// Bits of a tag below the mark: route and kind.
const DATA_BITS: u32 = 18;

/// Where the path led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Rpc { route: u16, kind: RpcKind },
    UnknownMethod,
    UnknownService,
    Malformed,
}

/// Reads the heads of one connection's requests, one after the other.
#[derive(Debug)]
pub struct HeadReader {
    resolver: Resolver,
    // Of the head that is being read:
    target: Target,
    post: bool,
    content_type_valid: bool,
    encoding: Option<Encoding>,
    timeout: Option<Duration>,
    authorities: u32,
    hosts: u32,
    leader_seen: bool,
    meta: Meta,
    texts: Texts,
    fault: Option<Status>,
    /// Texts that only refusals and rare requests need.
    path: Vec<u8>,
    method: Vec<u8>,
    content_type: Vec<u8>,
    subtype: Vec<u8>,
    encoding_name: Vec<u8>,
    // Values of the last request that had them: a client sends the same ones each time.
    version_last: Option<Arc<[u8]>>,
    token_last: Option<Arc<[u8]>>,
    authorization_last: Option<Arc<[u8]>>,
    texts_last: Option<Arc<Texts>>,
}

impl HeadReader {
    /// A reader that knows the RPCs through `resolver`.
    pub fn new(resolver: Resolver) -> HeadReader {
        HeadReader {
            resolver,
            target: Target::Malformed,
            post: false,
            content_type_valid: false,
            encoding: Some(Encoding::Identity),
            timeout: None,
            authorities: 0,
            hosts: 0,
            leader_seen: false,
            meta: Meta::default(),
            texts: Texts::default(),
            fault: None,
            path: Vec::new(),
            method: Vec::new(),
            content_type: Vec::new(),
            subtype: Vec::new(),
            encoding_name: Vec::new(),
            version_last: None,
            token_last: None,
            authorization_last: None,
            texts_last: None,
        }
    }

    /// The verdict on the head whose fields were read.
    pub fn finish(&mut self, now: Monotonic) -> Result<Accepted, Refused> {
        let subtype = std::mem::take(&mut self.subtype).into_boxed_slice();
        let verdict = self.judge(now);
        let mut meta = std::mem::take(&mut self.meta);
        if self.texts != Texts::default() {
            meta.texts = Some(self.share_texts());
        }
        self.trim();
        match (verdict, self.target) {
            (Ok(encoding), Target::Rpc { route, kind }) => {
                Ok(Accepted { route, kind, encoding, subtype, meta })
            }
            (Ok(_), _) => unreachable!("judge refuses what is no RPC"),
            (Err((http_status, status)), _) => Err(Refused { http_status, status, subtype }),
        }
    }

    /// The texts of this head, in the memory of the last one's if they are the same.
    fn share_texts(&mut self) -> Arc<Texts> {
        let texts = std::mem::take(&mut self.texts);
        match &self.texts_last {
            Some(last) if **last == texts => Arc::clone(last),
            Some(_) | None => Arc::clone(self.texts_last.insert(Arc::new(texts))),
        }
    }

    /// Gives back the memory of unusually long values: the next head may be long in coming.
    fn trim(&mut self) {
        for text in [&mut self.path, &mut self.method, &mut self.content_type, &mut self.encoding_name] {
            if text.capacity() > KEPT_CAPACITY_BYTES {
                *text = Vec::new();
            }
        }
        for last in [&mut self.version_last, &mut self.token_last, &mut self.authorization_last] {
            if last.as_ref().is_some_and(|value| value.len() > KEPT_CAPACITY_BYTES) {
                (*last, self.texts_last) = (None, None);
            }
        }
    }

    fn judge(&mut self, now: Monotonic) -> Result<Encoding, (u16, Status)> {
        let refuse = |http, code, text: String| Err((http, Status::new(code, text)));
        if self.hosts > 1 {
            let text = format!(
                "num values of :authority: {}, num values of host: {}, both must only have 1 value as per HTTP/2 spec",
                self.authorities, self.hosts
            );
            return refuse(400, Code::Internal, text);
        }
        if !self.content_type_valid {
            let text = format!("invalid gRPC request content-type {}", quote(&self.content_type));
            return refuse(415, Code::InvalidArgument, text);
        }
        if let Some(status) = self.fault.take() {
            return Err((400, status));
        }
        if self.authorities + self.hosts == 0 {
            return refuse(400, Code::Internal, "no host or :authority header present".to_owned());
        }
        if !self.post {
            let text =
                format!("Received a HEADERS frame with :method {} which should be POST", quote(&self.method));
            return refuse(405, Code::Internal, text);
        }
        if let Some(timeout) = self.timeout {
            if timeout.is_zero() {
                return refuse(200, Code::DeadlineExceeded, "context deadline exceeded".to_owned());
            }
            self.meta.deadline = Some(now + timeout);
        }
        self.judge_target()?;
        let Some(encoding) = self.encoding else {
            let name = quote(&self.encoding_name);
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {name}");
            return refuse(200, Code::Unimplemented, text);
        };
        Ok(encoding)
    }

    fn judge_target(&self) -> Result<(), (u16, Status)> {
        let path = String::from_utf8_lossy(&self.path);
        let (service, method) = path.strip_prefix('/').and_then(|p| p.rsplit_once('/')).unwrap_or_default();
        let text = match self.target {
            Target::Rpc { .. } => return Ok(()),
            Target::Malformed => format!("malformed method name: {}", quote(&self.path)),
            Target::UnknownService => format!("unknown service {service}"),
            Target::UnknownMethod => format!("unknown method {method} for service {service}"),
        };
        Err((200, Status::new(Code::Unimplemented, text)))
    }

    fn path(&mut self, target: Target, path: &[u8]) {
        self.target = target;
        self.path.extend_from_slice(path);
    }

    fn content_type(&mut self, valid: bool, value: &[u8]) {
        if valid {
            self.content_type_valid = true;
            self.subtype.clear();
            self.subtype.extend_from_slice(value);
        } else {
            self.content_type.clear();
            self.content_type.extend_from_slice(value);
        }
    }

    fn encoding(&mut self, encoding: Option<Encoding>, name: &[u8]) {
        self.encoding = encoding;
        if encoding.is_none() {
            self.encoding_name.clear();
            self.encoding_name.extend_from_slice(name);
        }
    }

    fn timeout(&mut self, value: &[u8]) {
        match parse_timeout(value) {
            Ok(timeout) => self.timeout = Some(timeout),
            Err(reason) => {
                self.fault = Some(Status::new(Code::Internal, format!("malformed grpc-timeout: {reason}")));
            }
        }
    }
}

impl FieldSink for HeadReader {
    fn classify(&self, name: &[u8], value: &[u8]) -> u32 {
        let plain = |mark: u32| mark << DATA_BITS;
        match name {
            b":path" => classify_path(self.resolver, value),
            b":method" if value == b"POST" => plain(mark::METHOD_POST),
            b":method" => plain(mark::METHOD),
            b":authority" => plain(mark::AUTHORITY),
            b"host" => plain(mark::HOST),
            b"content-type" => plain(match value.strip_prefix(b"application/grpc") {
                Some([]) => mark::CONTENT_TYPE,
                Some([b'+' | b';', subtype @ ..]) if subtype.len() <= CONTENT_SUBTYPE_BYTES_MAX => {
                    mark::CONTENT_TYPE_SUBTYPE
                }
                Some(_) | None => mark::CONTENT_TYPE_INVALID,
            }),
            b"grpc-encoding" => plain(match value {
                b"" | b"identity" => mark::ENCODING_IDENTITY,
                b"gzip" => mark::ENCODING_GZIP,
                _ => mark::ENCODING_OTHER,
            }),
            b"grpc-timeout" => plain(mark::TIMEOUT),
            b"hasleader" if value == b"true" => plain(mark::REQUIRE_LEADER),
            b"hasleader" => plain(mark::REQUIRE_LEADER_OTHER),
            b"client-api-version" => plain(mark::CLIENT_VERSION),
            b"token" => plain(mark::TOKEN),
            b"authorization" => plain(mark::AUTHORIZATION),
            b"grpcgateway-accept" => plain(mark::VIA_GATEWAY),
            _ if name.ends_with(b"-bin") && !is_base64(value) => plain(mark::BINARY_INVALID),
            _ => plain(mark::NONE),
        }
    }

    fn begin(&mut self) {
        self.target = Target::Malformed;
        self.post = false;
        self.content_type_valid = false;
        self.encoding = Some(Encoding::Identity);
        self.timeout = None;
        (self.authorities, self.hosts) = (0, 0);
        self.leader_seen = false;
        self.meta = Meta::default();
        self.texts = Texts::default();
        self.fault = None;
        for text in [
            &mut self.path,
            &mut self.method,
            &mut self.content_type,
            &mut self.subtype,
            &mut self.encoding_name,
        ] {
            text.clear();
        }
    }

    fn field(&mut self, tag: u32, name: &[u8], value: &[u8]) {
        match tag >> DATA_BITS {
            mark::NONE => {}
            mark::PATH => self.target = unpack_rpc(tag),
            mark::PATH_UNKNOWN_METHOD => self.path(Target::UnknownMethod, value),
            mark::PATH_UNKNOWN_SERVICE => self.path(Target::UnknownService, value),
            mark::PATH_MALFORMED => self.path(Target::Malformed, value),
            mark::METHOD_POST => self.post = true,
            mark::METHOD => self.method.extend_from_slice(value),
            mark::CONTENT_TYPE => self.content_type(true, b""),
            mark::CONTENT_TYPE_SUBTYPE => self.content_type(true, &value[b"application/grpc+".len()..]),
            mark::CONTENT_TYPE_INVALID => self.content_type(false, value),
            mark::ENCODING_IDENTITY => self.encoding(Some(Encoding::Identity), value),
            mark::ENCODING_GZIP => self.encoding(Some(Encoding::Gzip), value),
            mark::ENCODING_OTHER => self.encoding(None, value),
            mark::TIMEOUT => self.timeout(value),
            // Of fields that repeat, the first value counts, as in etcd's interceptors.
            mark::REQUIRE_LEADER | mark::REQUIRE_LEADER_OTHER => {
                let first = !std::mem::replace(&mut self.leader_seen, true);
                self.meta.require_leader |= first && tag >> DATA_BITS == mark::REQUIRE_LEADER;
            }
            mark::CLIENT_VERSION => keep_first(&mut self.texts.client_version, &mut self.version_last, value),
            mark::TOKEN => keep_first(&mut self.texts.token, &mut self.token_last, value),
            mark::AUTHORIZATION => {
                keep_first(&mut self.texts.authorization, &mut self.authorization_last, value)
            }
            mark::VIA_GATEWAY => self.meta.via_gateway = true,
            mark::AUTHORITY => self.authorities += 1,
            mark::HOST => self.hosts += 1,
            mark::BINARY_INVALID => {
                let (value, name) = (quote(value), String::from_utf8_lossy(name).into_owned());
                let reason = "illegal base64 data at input byte 0";
                let text = format!(
                    "malformed binary metadata {value} in header {}: {reason}",
                    quote(name.as_bytes())
                );
                self.fault = Some(Status::new(Code::Internal, text));
            }
            other => unreachable!("no mark {other} is given by classify"),
        }
    }
}

fn classify_path(resolver: Resolver, path: &[u8]) -> u32 {
    let slashes = path.iter().filter(|b| **b == b'/').count();
    if path.first() != Some(&b'/') || slashes < 2 {
        return mark::PATH_MALFORMED << DATA_BITS;
    }
    match resolver(path) {
        Resolved::Rpc { route, kind } => {
            let kind = match kind {
                RpcKind::Unary => 0,
                RpcKind::ServerStream => 1,
                RpcKind::ClientStream => 2,
            };
            mark::PATH << DATA_BITS | kind << 16 | u32::from(route)
        }
        Resolved::UnknownMethod => mark::PATH_UNKNOWN_METHOD << DATA_BITS,
        Resolved::UnknownService => mark::PATH_UNKNOWN_SERVICE << DATA_BITS,
    }
}

fn unpack_rpc(tag: u32) -> Target {
    let kind = match tag >> 16 & 3 {
        0 => RpcKind::Unary,
        1 => RpcKind::ServerStream,
        _ => RpcKind::ClientStream,
    };
    Target::Rpc { route: tag as u16, kind }
}

/// Keeps the first value of a request, sharing memory with the last request when it is the same.
fn keep_first(target: &mut Option<Arc<[u8]>>, last: &mut Option<Arc<[u8]>>, value: &[u8]) {
    if target.is_some() {
        return;
    }
    match last {
        Some(same) if **same == *value => {}
        Some(_) | None => *last = Some(Arc::from(value)),
    }
    target.clone_from(last);
}

/// Standard base64, with or without padding, as gRPC's binary metadata has it.
fn is_base64(value: &[u8]) -> bool {
    let end = value.len() - value.iter().rev().take(2).take_while(|b| **b == b'=').count();
    let alphabet = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let padded = end < value.len();
    value[..end].iter().all(alphabet) && end % 4 != 1 && (!padded || value.len().is_multiple_of(4))
}

/// grpc-timeout: up to 8 digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let fault = |what: &str| format!("transport: timeout {what}: {}", quote(value));
    if value.len() < 2 {
        return Err(fault("string is too short"));
    }
    if value.len() > 9 {
        return Err(fault("string is too long"));
    }
    let (digits, unit) = value.split_at(value.len() - 1);
    let nanos_per_unit: u64 = match unit {
        b"H" => 3_600_000_000_000,
        b"M" => 60_000_000_000,
        b"S" => 1_000_000_000,
        b"m" => 1_000_000,
        b"u" => 1_000,
        b"n" => 1,
        _ => return Err(fault("unit is not recognized")),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("strconv.ParseUint: parsing {}: invalid syntax", quote(digits)));
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(Duration::from_nanos(count.saturating_mul(nanos_per_unit)))
}
