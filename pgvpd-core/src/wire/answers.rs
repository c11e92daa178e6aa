//! What a server answers statements with: the messages that the proxy's own console sends.

use super::build::{count, message, string};
use super::{Format, TransactionStatus, tag};

/// A result's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ColumnType,
}

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `text`
    Text,
    /// `bigint`
    Int8,
}

impl ColumnType {
    /// Number and size, as `pg_type` has them.
    fn in_catalog(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int8 => (20, 8),
        }
    }
}

/// A value of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// Of a `text` column.
    Text(String),
    /// Of a `bigint` column.
    Int(i64),
}

/// The format of the column at an index, by what a Bind says: nothing is text, one is for all.
fn format_of(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(Format::Text),
    }
}

/// Appends RowDescription to `out`.
pub fn row_description(out: &mut Vec<u8>, columns: &[Column], formats: &[Format]) {
    message(out, tag::ROW_DESCRIPTION, |out| {
        count(out, columns.len());
        for (index, column) in columns.iter().enumerate() {
            let (oid, size) = column.kind.in_catalog();
            string(out, column.name);
            // Of no table, and no attribute of one.
            out.extend([0; 6]);
            out.extend(oid.to_be_bytes());
            out.extend(size.to_be_bytes());
            out.extend((-1_i32).to_be_bytes());
            out.extend(i16::from(format_of(formats, index) == Format::Binary).to_be_bytes());
        }
    });
}

/// Appends DataRow to `out`.
pub fn data_row(out: &mut Vec<u8>, row: &[Cell], formats: &[Format]) {
    message(out, tag::DATA_ROW, |out| {
        count(out, row.len());
        for (index, value) in row.iter().enumerate() {
            match (value, format_of(formats, index)) {
                (Cell::Null, _) => out.extend((-1_i32).to_be_bytes()),
                (Cell::Text(text), _) => field(out, text.as_bytes()),
                (Cell::Int(number), Format::Text) => field(out, number.to_string().as_bytes()),
                (Cell::Int(number), Format::Binary) => field(out, &number.to_be_bytes()),
            }
        }
    });
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Appends CommandComplete to `out`.
pub fn command_complete(out: &mut Vec<u8>, what: &str) {
    message(out, tag::COMMAND_COMPLETE, |out| string(out, what));
}

/// Appends ParameterDescription of so many `text` parameters to `out`.
pub fn parameter_description(out: &mut Vec<u8>, parameters: usize) {
    message(out, tag::PARAMETER_DESCRIPTION, |out| {
        count(out, parameters);
        (0..parameters).for_each(|_| out.extend(ColumnType::Text.in_catalog().0.to_be_bytes()));
    });
}

/// Appends ParseComplete to `out`.
pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, tag::PARSE_COMPLETE, |_| {});
}

/// Appends BindComplete to `out`.
pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, tag::BIND_COMPLETE, |_| {});
}

/// Appends CloseComplete to `out`.
pub fn close_complete(out: &mut Vec<u8>) {
    message(out, tag::CLOSE_COMPLETE, |_| {});
}

/// Appends NoData to `out`.
pub fn no_data(out: &mut Vec<u8>) {
    message(out, tag::NO_DATA, |_| {});
}

/// Appends PortalSuspended to `out`.
pub fn portal_suspended(out: &mut Vec<u8>) {
    message(out, tag::PORTAL_SUSPENDED, |_| {});
}

/// Appends EmptyQueryResponse to `out`.
pub fn empty_query_response(out: &mut Vec<u8>) {
    message(out, tag::EMPTY_QUERY_RESPONSE, |_| {});
}

/// Appends ReadyForQuery to `out`.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    message(out, tag::READY_FOR_QUERY, |out| out.push(status.to_byte()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DataRow, Parsed, RowDescription, frame};

    const COLUMNS: [Column; 2] =
        [Column { name: "database", kind: ColumnType::Text }, Column { name: "cl_active", kind: ColumnType::Int8 }];

    fn body(out: &[u8]) -> &[u8] {
        let Ok(Parsed::Complete(found, size)) = frame(out, 1000) else { panic!("not whole") };
        assert_eq!(size, out.len());
        found.body
    }

    #[test]
    fn a_result_is_laid_out_as_the_manual_has_it() {
        let mut out = Vec::new();
        row_description(&mut out, &COLUMNS[1..], &[Format::Binary]);
        assert_eq!(out, b"T\0\0\0\x22\0\x01cl_active\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01");
        assert_eq!(RowDescription::names(body(&out)), Ok(vec![&b"cl_active"[..]]));
        out.clear();
        data_row(&mut out, &[Cell::Text("shop".into()), Cell::Int(-2)], &[Format::Text, Format::Binary]);
        assert_eq!(out, b"D\0\0\0\x1a\0\x02\0\0\0\x04shop\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe");
        out.clear();
        data_row(&mut out, &[Cell::Null, Cell::Int(12)], &[]);
        assert_eq!(DataRow::parse(body(&out)), Ok(vec![None, Some(&b"12"[..])]));
        out.clear();
        ready_for_query(&mut out, TransactionStatus::Failed);
        assert_eq!(out, b"Z\0\0\0\x05E");
    }
}
