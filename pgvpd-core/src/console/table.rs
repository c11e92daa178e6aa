//! Results: tables, and what else a command has to say. Pure.

use crate::wire::{Cell, Column, ColumnType};

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// What a command has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// For the person who asked.
    pub(super) notices: Vec<String>,
    pub(super) table: Option<Table>,
    /// What CommandComplete says.
    pub(super) tag: String,
}

impl Outcome {
    /// Nothing but that it is done.
    pub(super) fn done(tag: impl Into<String>) -> Self {
        Self { notices: Vec::new(), table: None, tag: tag.into() }
    }

    /// A table, by SHOW or SELECT.
    pub(super) fn table(tag: impl Into<String>, table: Table) -> Self {
        Self { notices: Vec::new(), table: Some(table), tag: tag.into() }
    }

    pub(super) fn noticing(mut self, notice: impl Into<String>) -> Self {
        self.notices.push(notice.into());
        self
    }
}

/// A column of text.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, kind: ColumnType::Text }
}

/// A column of whole numbers.
pub(super) const fn int(name: &'static str) -> Column {
    Column { name, kind: ColumnType::Int8 }
}

/// A number of a table.
pub(super) fn number<N: TryInto<i64>>(number: N) -> Cell {
    Cell::Int(number.try_into().unwrap_or(i64::MAX))
}

/// A number, or NULL where there is none.
pub(super) fn number_if<N: TryInto<i64>>(value: Option<N>) -> Cell {
    value.map_or(Cell::Null, number)
}

/// Seconds in whole microseconds.
pub(super) fn microseconds(seconds: f64) -> Cell {
    number(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_micros())
}
