//! What a server sends: a stream of messages, and any bytes as the body of each.

use pgvpd_core::wire::{
    Authentication, BackendKeyData, DataRow, ErrorFields, ErrorResponse, NotificationResponse, ParameterStatus, Parsed,
    RowDescription, Severity, SqlState, TaggedFrames, TransactionStatus, authentication_cleartext_password,
    authentication_sasl, frame, tag,
};

/// Reads the bytes as a stream, as a body of every type, and as a text that the proxy puts into an error.
pub fn run(bytes: &[u8]) {
    for message in TaggedFrames::new(bytes, bytes.len()) {
        match message.tag {
            tag::AUTHENTICATION => authentication(message.body),
            tag::PARAMETER_STATUS => parameter_status(message.body),
            tag::BACKEND_KEY_DATA => backend_key_data(message.body),
            tag::DATA_ROW => data_row(message.body),
            tag::ROW_DESCRIPTION => row_description(message.body),
            tag::NOTIFICATION_RESPONSE => notification(message.body),
            tag::READY_FOR_QUERY => transaction_status(message.body),
            tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => error_fields(message.body),
            _ => {}
        }
    }
    let parsers: [fn(&[u8]); 8] = [
        authentication,
        parameter_status,
        backend_key_data,
        data_row,
        row_description,
        notification,
        transaction_status,
        error_fields,
    ];
    for parse in parsers {
        parse(bytes);
    }
    error_response(&String::from_utf8_lossy(bytes));
}

fn authentication(body: &[u8]) {
    let Ok(request) = Authentication::parse(body) else { return };
    let method = body.first_chunk().copied().map(i32::from_be_bytes);
    let mut written = Vec::new();
    let number = match request {
        Authentication::Ok => 0,
        Authentication::CleartextPassword => {
            authentication_cleartext_password(&mut written);
            3
        }
        Authentication::Md5Password { salt } => {
            assert_eq!(body.get(4..8), Some(&salt[..]));
            5
        }
        Authentication::Sasl { mechanisms } => {
            assert!(mechanisms.iter().all(|name| !name.is_empty() && !name.contains('\0')));
            authentication_sasl(&mut written, &mechanisms);
            10
        }
        Authentication::SaslContinue(_) => 11,
        Authentication::SaslFinal(_) => 12,
        Authentication::Other(number) => {
            assert!(![0, 3, 5, 10, 11, 12].contains(&number));
            number
        }
    };
    assert_eq!(method, Some(number));
    assert!(body.starts_with(written.get(5..).unwrap_or_default()), "written as it was read");
}

fn row_description(body: &[u8]) {
    let Ok(names) = RowDescription::names(body) else { return };
    assert!(names.iter().all(|name| !name.contains(&0)));
    let size = 2 + names.iter().map(|name| name.len() + 1 + 18).sum::<usize>();
    assert_eq!(size, body.len(), "every byte is a field's");
}

fn notification(body: &[u8]) {
    let Ok(NotificationResponse { channel, payload }) = NotificationResponse::parse(body) else { return };
    assert!(
        body.ends_with(&[channel, &[0], payload, &[0]].concat()) && body.len() == 6 + channel.len() + payload.len()
    );
}

fn parameter_status(body: &[u8]) {
    if let Ok(ParameterStatus { name, value }) = ParameterStatus::parse(body) {
        assert!(!name.contains(&0) && !value.contains(&0));
        assert!(body.starts_with(&[name, &[0], value, &[0]].concat()), "written as it was read");
    }
}

fn backend_key_data(body: &[u8]) {
    match BackendKeyData::parse(body) {
        Ok(key) => assert_eq!([&key.pid.to_be_bytes(), &*key.secret].concat(), body, "written as it was read"),
        Err(_) => assert!(!(8..=260).contains(&body.len())),
    }
}

fn data_row(body: &[u8]) {
    let Ok(columns) = DataRow::parse(body) else { return };
    let mut written = i16::try_from(columns.len()).unwrap_or(-1).to_be_bytes().to_vec();
    for column in columns {
        let size = column.map_or(-1, |column| i32::try_from(column.len()).unwrap_or(i32::MAX));
        written.extend(size.to_be_bytes());
        written.extend(column.unwrap_or_default());
    }
    assert_eq!(written, body, "written as it was read");
}

fn transaction_status(body: &[u8]) {
    assert_eq!(TransactionStatus::parse(body).is_ok(), matches!(body, [b'I' | b'T' | b'E']));
}

fn error_fields(body: &[u8]) {
    let fields = ErrorFields::new(body);
    assert_eq!((fields.code(), fields.message()), (fields.field(b'C'), fields.field(b'M')));
    assert_eq!(fields.field(0), None, "zero ends the fields");
    for kind in 1..=u8::MAX {
        // The fields may follow one another in any order, so only this much is known of each.
        if let Some(value) = fields.field(kind) {
            assert!(body.contains(&kind) && value.len() <= body.len() * 3 && !value.contains('\0'));
        }
    }
}

/// An error with this message and hint is one whole message, and reads back without its NULs.
fn error_response(text: &str) {
    let mut written = Vec::new();
    ErrorResponse { severity: Severity::Fatal, code: SqlState::INVALID_AUTHORIZATION, message: text, hint: Some(text) }
        .encode(&mut written);
    let Ok(Parsed::Complete(message, size)) = frame(&written, written.len()) else { panic!("not a whole message") };
    assert_eq!((message.tag, size), (tag::ERROR_RESPONSE, written.len()));
    let fields = ErrorFields::new(message.body);
    let expected = text.replace('\0', "");
    assert_eq!(fields.message().as_deref(), Some(expected.as_str()));
    assert_eq!(fields.field(b'H').as_deref(), Some(expected.as_str()));
    assert_eq!(fields.code().as_deref(), Some(SqlState::INVALID_AUTHORIZATION.as_str()));
}
