//! The seeds of the corpus: inputs as real clients, servers and people send them, and what goes wrong with them.
//!
//! A fuzzer starts from these. Files named `found-*` beside them were found by it.

/// A seed: the name of its file, and what is in it.
pub type Seed = (&'static str, Vec<u8>);

/// The seeds of each target.
pub fn all() -> [(&'static str, Vec<Seed>); 11] {
    [
        ("backend", backend()),
        ("config", texts(CONFIG)),
        ("frontend", FRONTEND.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect()),
        ("headers", headers()),
        ("notifications", notifications()),
        ("options", texts(OPTIONS)),
        ("resets", resets()),
        ("resolvers", texts(RESOLVERS)),
        ("startup", startup()),
        ("tenants", texts(TENANTS)),
        ("token", texts(TOKEN)),
    ]
}

fn texts(seeds: &[(&'static str, &str)]) -> Vec<Seed> {
    seeds.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

const OPTIONS: &[(&str, &str)] = &[
    ("all-three-spellings", "-c work_mem=1MB --statement-timeout=5s -csearch_path=public"),
    ("context-variable-in-disguise", r"--App.Current-Tenant-Id=globex -\c app.current\_tenant_id=globex"),
    ("escaped-blanks-and-backslashes", r"-c search_path=a,\ b -c x.y=1\\2 -c z.z=\	t"),
    ("every-blank", "\t-c\x0ba=1\x0c--b=2\r\n -cc=3 "),
    ("setting-behind-a-vertical-tab", "-c a=1\x0b--b=2"),
    ("backslash-at-the-end", "-c a=b\\"),
    ("value-with-equal-signs", "-c a=b=c=d -c e="),
    ("bundled-switches", "-ecapp.x=1"),
    ("other-switch", "-c work_mem=1MB -W 5"),
    ("assignment-missing", "-c a=1 -c"),
    ("name-missing", "-c =1"),
    ("double-dash-alone", "-- a=1"),
    ("not-ascii", "-c app.x=Gr\u{fc}\u{df}e\u{a0}\u{2003}\u{1f418} --A\u{131}=1"),
    ("name-that-grows-in-lower-case", "-c \u{130}=1 --\u{130}.x=2"),
    ("empty", ""),
];

/// Cut after each 13th byte.
fn resets() -> Vec<Seed> {
    RESETS.iter().map(|(name, text)| (*name, [&[1, 13], text.as_bytes()].concat())).collect()
}

const RESETS: &[(&str, &str)] = &[
    (
        "npgsql",
        "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;\
         DISCARD TEMP",
    ),
    ("asyncpg", "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"),
    ("cut-off", "BEGIN; RESET \"app\".current_tenant_id; ROLLBACK TO a; SELECT * FROM t"),
    ("rolled-back", "BEGIN; DISCARD SEQUENCES; RESET ALL; ROLLBACK; TABLE t; SHOW app.x"),
    (
        "set-to-default",
        "SET LOCAL app.x = DEFAULT; SET TIME ZONE DEFAULT; SET ROLE NONE; SET CONSTRAINTS ALL IMMEDIATE",
    ),
    ("in-quotes", "SELECT '; RESET ALL; ''', E'\\'; RESET ALL;', \"; RESET ALL; \"\"\", $q$; RESET ALL;$q$"),
    ("in-comments", "/* ; RESET ALL; /* */ */ SELECT 1 -- ; RESET ALL;\n; DISCARD PLANS"),
    ("a-string-that-goes-on", "SELECT E'a' -- x\n 'b\\'; RESET ALL;', 'a'\n'b'; TABLE t"),
    ("dollar-signs", "SELECT $1, a$b$c, 1$x$ ; RESET ALL; $x$, $\u{e9}$ $$ $\u{e9}$; RESET U&\"app.x\""),
    ("no-end", "RESET ALL; SELECT 'a"),
    ("a-comment-without-end", "RESET ALL; /* /* */ TABLE t"),
    ("empty", ""),
];

const FRONTEND: &[(&str, &[u8])] = &[
    ("simple-queries", b"Q\0\0\0\x10SHOW POOLS;\0Q\0\0\0\x05\0X\0\0\0\x04"),
    (
        "extended-with-a-parameter",
        b"P\0\0\0\x1es\0DISCONNECT TENANT $1\0\0\x01\0\0\0\x19D\0\0\0\x07Ss\0\
          B\0\0\0\x18p\0s\0\0\x01\0\0\0\x01\0\0\0\x04acme\0\x01\0\x01E\0\0\0\x0ap\0\0\0\0\x02C\0\0\0\x07Pp\0H\0\0\0\x04S\0\0\0\x04",
    ),
    ("null-and-no-formats", b"B\0\0\0\x12\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"),
    ("more-values-than-there-are", b"B\0\0\0\x0e\0\0\0\0\xff\xff\0\0\0\x01"),
    ("a-negative-length", b"B\0\0\0\x12\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
    ("not-text", b"Q\0\0\0\x07ab\xff"),
    ("types-that-are-not-there", b"P\0\0\0\x0es\0SHOW\0\0\x02\0\0"),
    ("an-unknown-format", b"B\0\0\0\x10\0\0\0\x01\0\x02\0\0\0\0"),
    ("described-is-neither", b"D\0\0\0\x07Xx\0"),
    ("a-copy-that-nobody-began", b"d\0\0\0\x08datac\0\0\0\x04"),
    ("empty", b""),
];

const TOKEN: &[(&str, &str)] = &[
    ("passthrough", "(4711,1700000000123456,0)\0shop\0app_user"),
    ("pool", "(4711,1700000000123456,42)\0shop\0app_user"),
    ("start-not-shown", "(4711,0,42)\0shop\0app_user"),
    ("nothing-to-tell-apart", "(4711,0,0)\0shop\0app_user"),
    ("names-with-dots-and-quotes", "(1,1,1)\0a.b.c\0app_user.\"acme\""),
    ("names-that-are-not-ascii", "(1,1,1)\0gesch\u{e4}ft\0\u{65e5}\u{672c}"),
    ("no-names", "(1,1,1)"),
    ("a-sign", "(-1,+1,1)\0shop\0app_user"),
    ("too-many-numbers", "(1,1,1,1)\0shop\0app_user"),
    ("a-number-too-large", "(1,18446744073709551616,1)\0shop\0app_user"),
    ("leading-zeros", "(01,001,1)\0shop\0app_user"),
    ("empty", ""),
];

const TENANTS: &[(&str, &str)] = &[
    (
        "typical",
        "[[tenant]]\nname = \"acme\"\nmax_connections = 50\n[[tenant]]\nname = \"trial-*\"\nrate_limit = 5\n\0trial-x",
    ),
    ("no-limit", "[[tenant]]\nname = 'acme'\nquery_timeout = \"none\"\nmax_connections = \"none\"\n\0acme"),
    ("denied", "[[tenant]]\nname = 'mallory'\ndeny = true\n\0mallory"),
    ("denied-and-limited", "[[tenant]]\nname = 'mallory'\ndeny = true\nmax_connections = 1\n"),
    ("says-nothing", "[[tenant]]\nname = 'acme'\n"),
    ("twice", "[[tenant]]\nname = 'a*'\ndeny = true\n[[tenant]]\nname = 'a*'\ndeny = true\n"),
    ("many-stars", "[[tenant]]\nname = '*a*a*a*a*a*a*a*b'\ndeny = true\n\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("half-a-class", "[[tenant]]\nname = '[a-'\ndeny = true\n\0a"),
    ("a-class", "[[tenant]]\nname = '[!a-c]?'\ndeny = true\n\0dx"),
    ("zero-and-less", "[[tenant]]\nname = 'a'\nmax_connections = 0\nrate_limit = -1\nquery_timeout = 0.0\n"),
    ("infinite", "[[tenant]]\nname = 'a'\nquery_timeout = inf\n[[tenant]]\nname = 'b'\nquery_timeout = nan\n\0a"),
    ("unknown-key", "[[tenant]]\nname = 'a'\nmax_conections = 1\n"),
    ("not-ascii", "[[tenant]]\nname = 'Gr\u{fc}\u{df}e-*'\nmax_connections = 1\n\0Gr\u{fc}\u{df}e-\u{1f418}"),
    ("empty", ""),
];

const RESOLVERS: &[(&str, &str)] = &[
    (
        "typical",
        "[[resolver]]\nname = \"org\"\nquery = \"\"\"SELECT org FROM members WHERE u = $1\"\"\"\nparams = [\"app.current_tenant_id\"]\n\
         inject = { \"app.org\" = \"org\" }\nrequired = true\ncache_ttl = 60\n[[resolver]]\nname = \"teams\"\nquery = 'SELECT 1 AS x'\n\
         params = [\"app.org\"]\ninject = { \"app.teams\" = \"x\" }\ndepends_on = [\"org\"]\n",
    ),
    (
        "a-circle",
        "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\ndepends_on=[\"b\"]\n\
         [[resolver]]\nname=\"b\"\nquery=\"q\"\ninject={\"a.b\"=\"x\"}\nparams=[\"a.a\"]\n",
    ),
    (
        "one-name-and-one-variable-twice",
        "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\n[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\n",
    ),
    ("unknown-parameter", "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\nparams=[\"a.b\"]\n"),
    ("unknown-key", "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\nparms=[]\n"),
    ("the-proxys-own-name", "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"pgvpd.context\"=\"x\"}\n"),
    (
        "no-time",
        "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\ncache_ttl=-1e400\ncache_negative=true\n",
    ),
    (
        "on-change-without-an-account",
        "[[resolver]]\nname=\"a\"\nquery=\"q\"\ninject={\"a.a\"=\"x\"}\non_change=\"terminate\"\n",
    ),
    ("a-nul-in-the-query", "[[resolver]]\nname=\"a\"\nquery=\"q\\u0000\"\ninject={\"a.a\"=\"x\"}\n"),
    ("not-a-table", "resolver = 1\n"),
    ("empty", ""),
];

const CONFIG: &[(&str, &str)] = &[
    (
        "typical",
        "# production\nupstream_host = db.internal\nupstream_port = 5432\ntenant_deny = acme, globex\n\
         allow_trust = off\nlog_format = json\n",
    ),
    (
        "several-variables",
        "context_variables = app.org_id, app.user_id\ntenant_separator = \"#\"\nvalue_separator = /\n\
         tenant_format = uuid\ntenant_allow = a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\n",
    ),
    ("quotes", "set_role = \"a b\"\nlisten_host = '::1'\ntenant_separator = '\nvalue_separator = '\"'\n"),
    ("hash-and-equal-signs-in-values", "set_role = a=b # c\n  # a comment\ntenant_separator=#\n"),
    ("byte-order-mark-and-crlf", "\u{feff}port = 7000\r\n\r\nlisten_host = ::\r\n"),
    ("set-twice", "port = 1\nport = 2\n"),
    ("unknown-keys", "tenant_dney = acme\nadmin_port = 9\n = x\nport\n"),
    (
        "every-value-wrong",
        "port = 64x32\nupstream_port = 0\nlisten_host = /tmp\nupstream_host =\ntenant_separator =\n\
         context_variables = role\ntenant_format = hex\nlogin_roles =\nbypass_from = 10.0.0.0/33\nallow_trust = maybe\n\
         max_client_connections = 0\nhandshake_timeout = 0\nshutdown_timeout = nan\nrelay = framed\nlog_level = lots\n",
    ),
    (
        "lists",
        "login_roles = a,b , c\nsuperuser_bypass =\nbypass_from = loopback, unix, 10.0.0.0/8, ::1\ntenant_deny = ,\n",
    ),
    ("times", "handshake_timeout = 0.5\nshutdown_timeout = 86400\n"),
    ("contradiction", "tenant_allow = a\ntenant_deny = b\n"),
    ("can-never-match", "tenant_format = integer\ntenant_deny = 1, 07\n"),
    ("separator-in-a-role", "tenant_separator = _\nlogin_roles = app_user\n"),
    ("log-filter", "log_level = warn,pgvpd_core=debug\n"),
    ("no-line-end", "port = 7000"),
];

const V3_0: [u8; 4] = [0, 3, 0, 0];
const V3_2: [u8; 4] = [0, 3, 0, 2];
const SSL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x30];
const CANCEL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];

fn startup() -> Vec<Seed> {
    let psql = b"user\0app_user.acme\0database\0mydb\0application_name\0psql\0client_encoding\0UTF8\0\0";
    let jdbc = b"user\0app_user.acme\0database\0mydb\0client_encoding\0UTF8\0DateStyle\0ISO\0TimeZone\0Etc/UTC\0\
                 extra_float_digits\x002\0\0";
    let key = |size: usize| [&[0, 0, 0x30, 0x39][..], &vec![0x5a; size]].concat();
    let whole = packet(V3_0, psql);
    let cut = whole.get(..30).unwrap_or_default().to_vec();
    vec![
        ("psql-3.0", whole.clone()),
        ("psql-3.2", packet(V3_2, psql)),
        ("jdbc-3.0", packet(V3_0, jdbc)),
        ("user-alone", packet(V3_0, b"user\0app_user.acme\0\0")),
        ("options", packet(V3_0, b"user\0u\0options\0-c work_mem=1MB --statement-timeout=5s\0\0")),
        ("replication", packet(V3_0, b"user\0u\0replication\0database\0\0")),
        ("protocol-extension-3.9999", packet([0, 3, 0x27, 0x0f], b"user\0u\0_pq_.report_parameters\0x\0\0")),
        ("not-ascii", packet(V3_0, "user\0app.Gr\u{fc}\u{df}e\u{1f418}\0\0".as_bytes())),
        ("ssl-request", packet(SSL_REQUEST, b"")),
        ("ssl-request-then-startup", [packet(SSL_REQUEST, b""), packet(V3_0, psql)].concat()),
        ("ssl-request-too-long", packet(SSL_REQUEST, b"x")),
        ("gssenc-request", packet(GSSENC_REQUEST, b"")),
        ("cancel-4-byte-key", packet(CANCEL_REQUEST, &key(4))),
        ("cancel-32-byte-key", packet(CANCEL_REQUEST, &key(32))),
        ("cancel-256-byte-key", packet(CANCEL_REQUEST, &key(256))),
        ("cancel-257-byte-key", packet(CANCEL_REQUEST, &key(257))),
        ("cancel-without-key", packet(CANCEL_REQUEST, &key(0))),
        ("truncated", cut),
        ("truncated-header", vec![0, 0, 0, 0x40, 0, 3]),
        ("length-7", vec![0, 0, 0, 7, 0, 3, 0, 0]),
        ("length-10001", vec![0, 0, 0x27, 0x11, 0, 3, 0, 0]),
        ("length-negative", vec![0xff; 8]),
        ("protocol-2", packet([0, 2, 0, 0], psql)),
        ("terminator-missing", packet(V3_0, b"user\0u\0")),
        ("bytes-behind-terminator", packet(V3_0, b"user\0u\0\0x")),
        ("name-without-value", packet(V3_0, b"user\0u\0database\0")),
        ("user-missing", packet(V3_0, b"database\0mydb\0\0")),
        ("user-empty", packet(V3_0, b"user\0\0\0")),
        ("user-twice", packet(V3_0, b"user\0a\0user\0b\0\0")),
        ("name-twice-in-other-spelling", packet(V3_0, b"user\0u\0work-mem\x001\0Work_Mem\x002\0\0")),
        ("control-character", packet(V3_0, b"user\0a\nb\0\0")),
        ("not-utf8", packet(V3_0, b"user\0a\xff\0\0")),
        ("http-request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("tls-client-hello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
    ]
}

fn packet(code: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&size(body.len() + 8)[..], &code, body].concat()
}

fn backend() -> Vec<Seed> {
    let scram: [&[u8]; 3] = [
        &authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        &authentication(11, b"r=fyko+d2lbbFgONRv9qkxdawLHRVZNdgGS,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        &authentication(12, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
    ];
    let login = [
        &authentication(0, b"")[..],
        &message(b'S', b"application_name\0psql\0"),
        &message(b'S', b"client_encoding\0UTF8\0"),
        &message(b'S', b"in_hot_standby\0off\0"),
        &message(b'S', b"is_superuser\0off\0"),
        &message(b'S', b"server_version\x0017.10 (Debian 17.10-1.pgdg12+1)\0"),
        &message(b'S', b"session_authorization\0app_user\0"),
        &message(b'S', b"standard_conforming_strings\0on\0"),
        &message(b'S', b"TimeZone\0Etc/UTC\0"),
    ]
    .concat();
    let key = |size: usize| message(b'K', &[&[0, 0, 0x30, 0x39][..], &vec![0x5a; size]].concat());
    let ready = message(b'Z', b"I");
    let row = message(b'D', b"\0\x03\0\0\0\x04acme\xff\xff\xff\xff\0\0\0\0");
    let error = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app_user\"\0Fauth.c\0L331\0\
                  Rauth_failed\0\0";
    let notice = message(b'N', b"SWARNING\0VWARNING\0C01000\0Msomething\0DGr\xc3\xbc\xc3\x9fe \xff\0\0");
    let confirmed = [
        &message(b'1', b"")[..],
        &message(b'2', b""),
        &message(b'D', b"\0\x01\0\0\0\x04acme"),
        &message(b'C', b"SELECT 1\0"),
        &ready,
    ]
    .concat();
    vec![
        ("login-scram-3.0", [&scram.concat()[..], &login, &key(4), &ready].concat()),
        ("login-scram-3.2", [&scram.concat()[..], &login, &key(32), &ready].concat()),
        ("login-trust", [&login[..], &key(4), &ready].concat()),
        ("login-md5", [&authentication(5, b"salt")[..], &login, &key(4), &ready].concat()),
        ("login-cleartext", [&authentication(3, b"")[..], &login, &key(4), &ready].concat()),
        ("login-refused", [&authentication(3, b"")[..], &message(b'E', error)].concat()),
        ("login-with-notice", [&login[..], &notice, &key(4), &ready].concat()),
        ("context-confirmed", confirmed),
        ("row-with-null-and-empty", row),
        ("transaction-states", [ready, message(b'Z', b"T"), message(b'Z', b"E"), message(b'Z', b"x")].concat()),
        ("negotiate-protocol-version", message(b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.x\0")),
        ("authentication-gss", authentication(7, b"")),
        ("body-error", error.to_vec()),
        ("body-error-cut-in-a-field", b"SFATAL\0C28P01\0Mno".to_vec()),
        ("body-row", b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff".to_vec()),
        ("body-row-column-too-long", b"\0\x01\0\0\0\x05ab".to_vec()),
        ("body-row-length-minus-2", b"\0\x01\xff\xff\xff\xfe".to_vec()),
        ("body-row-count-negative", b"\xff\xff\0\0\0\x01a".to_vec()),
        ("body-row-count-beyond-the-bytes", b"\x7f\xff\xff\xff\xff\xff".to_vec()),
        ("body-sasl-without-terminator", b"\0\0\0\x0aSCRAM-SHA-256\0".to_vec()),
        ("body-md5-salt-cut", b"\0\0\0\x05sal".to_vec()),
        ("body-parameter-status", b"server_version\x0018.0\0".to_vec()),
        ("body-key-of-256", [&[0, 0, 0, 7][..], &[9; 256]].concat()),
        ("body-key-of-3", b"\0\0\0\x07abc".to_vec()),
    ]
}

fn authentication(method: i32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&method.to_be_bytes()[..], data].concat())
}

/// Inputs of the target `headers`: the number of cuts and the cuts, the longest message, then the stream.
fn notifications() -> Vec<Seed> {
    let input = |cuts: &[u8], stream: &[u8]| {
        let count = u8::try_from(cuts.len()).unwrap_or_default();
        [&[count][..], cuts, b"a", stream].concat()
    };
    let heard = message(b'A', b"\0\0\0\x07acme:jobs\0payload\0");
    let other = message(b'A', b"\0\0\0\x07globex\0secret\0");
    let row = message(b'D', b"\0\x01\0\0\0\x04acme");
    let ready = message(b'Z', b"I");
    let mixed = [&row[..], &other, &heard, &ready, &other, &row].concat();
    vec![
        ("heard", input(&[255], &heard)),
        ("not-heard", input(&[255], &other)),
        ("mixed-in-one-piece", input(&[255], &mixed)),
        ("mixed-byte-by-byte", input(&[1], &mixed)),
        ("mixed-in-pieces", input(&[3, 17, 5], &mixed)),
        ("none", input(&[7], &[&row[..], &ready].concat())),
        ("cut-in-a-header", input(&[4], &[&row[..], b"A\0\0"].concat())),
        ("cut-in-a-notification", input(&[4], other.get(..14).unwrap_or_default())),
        ("without-a-channel", input(&[4], &message(b'A', b"\0\0\0\x07acme"))),
        ("too-long", input(&[4], b"A\0\x01\0\0acme")),
        ("length-below-four", input(&[4], b"Z\0\0\0\x03")),
        ("empty", input(&[], b"")),
    ]
}

fn headers() -> Vec<Seed> {
    let input = |cuts: &[u8], max: u16, stream: &[u8]| {
        let count = u8::try_from(cuts.len()).unwrap_or_default();
        [&[count][..], cuts, &max.to_be_bytes(), stream].concat()
    };
    let result = [
        message(b'T', b"\0\x01name\0\0\0\x40\0\0\x01\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        message(b'D', b"\0\x01\0\0\0\x04acme"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let empty = [message(b'1', b""), message(b'2', b""), message(b'n', b""), message(b'I', b"")].concat();
    let copy = [message(b'd', &[b'x'; 200]), message(b'd', b""), message(b'c', b"")].concat();
    vec![
        ("result-byte-by-byte", input(&[1], 1000, &result)),
        ("result-in-one-piece", input(&[255], 1000, &result)),
        ("result-headers-split", input(&[3, 4, 1], 1000, &result)),
        ("result-cut-in-a-header", input(&[5], 1000, result.get(..40).unwrap_or_default())),
        ("result-cut-in-a-body", input(&[5], 1000, result.get(..12).unwrap_or_default())),
        ("empty-messages", input(&[2], 4, &empty)),
        ("copy-data", input(&[64, 7], 1000, &copy)),
        ("as-long-as-allowed", input(&[6], 9, &message(b'D', b"12345"))),
        ("longer-than-allowed", input(&[6], 8, &message(b'D', b"12345"))),
        ("length-3", input(&[1], 1000, &[&message(b'Z', b"I")[..], b"Z\0\0\0\x03"].concat())),
        ("length-negative", input(&[4], 1000, b"D\xff\xff\xff\xff")),
        ("length-of-2-gigabytes", input(&[4], 0xffff, b"D\x7f\xff\xff\xff")),
        ("nothing", input(&[], 1000, b"")),
    ]
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &size(body.len() + 4), body].concat()
}

fn size(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}
