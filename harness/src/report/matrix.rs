//! The operation × application role matrix that several formats draw.

use crate::cell::Relation;
use crate::verdict::{CellState, CellVerdict, Judgement};

/// What a square of the matrix shows: the worst of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Square {
    /// No cell of the plan.
    Absent,
    /// All upheld.
    Upheld,
    /// At least one inconclusive.
    Inconclusive,
    /// At least one violated.
    Violated,
}

impl Square {
    /// A shape that can be told without its colour.
    pub fn shape(self) -> char {
        match self {
            Self::Absent => '·',
            Self::Upheld => '●',
            Self::Inconclusive => '?',
            Self::Violated => '✗',
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "not in the plan",
            Self::Upheld => "upheld",
            Self::Inconclusive => "inconclusive",
            Self::Violated => "violated",
        }
    }
}

/// The matrix.
pub struct Matrix<'r> {
    /// Application roles, in the order of the plan's cells.
    pub roles: Vec<&'r str>,
    /// Operations with a square a role and their cells.
    pub rows: Vec<Row<'r>>,
}

/// One operation.
pub struct Row<'r> {
    /// Its ID.
    pub operation: &'r str,
    /// One a role.
    pub squares: Vec<Square>,
    /// Its cells.
    pub cells: Vec<&'r CellVerdict>,
}

impl<'r> Matrix<'r> {
    /// The matrix of a judgement.
    pub fn of(judgement: &'r Judgement) -> Self {
        let mut roles: Vec<&str> = Vec::new();
        let mut rows: Vec<Row<'r>> = Vec::new();
        for cell in &judgement.cells {
            if !roles.contains(&cell.cell.role.as_str()) {
                roles.push(&cell.cell.role);
            }
            match rows.iter_mut().find(|row| row.operation == cell.cell.operation) {
                Some(row) => row.cells.push(cell),
                None => rows.push(Row { operation: &cell.cell.operation, squares: Vec::new(), cells: vec![cell] }),
            }
        }
        for row in &mut rows {
            row.squares = roles.iter().map(|role| square(row.cells.iter().filter(|c| c.cell.role == *role))).collect();
        }
        Self { roles, rows }
    }
}

impl Row<'_> {
    /// The square of one role and relation, over all pool states.
    pub fn relation(&self, role: &str, relation: Relation) -> Square {
        square(self.cells.iter().filter(|c| c.cell.role == role && c.cell.relation == relation))
    }

    /// Cells that are not upheld, in words, with what is wrong; at most `most`.
    pub fn wanting(&self, most: usize) -> Vec<String> {
        let wanting = self.cells.iter().filter_map(|cell| {
            let what = match &cell.state {
                CellState::Upheld => return None,
                CellState::Violated => "violated",
                CellState::Inconclusive(why) => why,
            };
            let key = &cell.cell;
            Some(format!("{}, {} objects, {}: {what}", key.role, key.relation.word(), key.pool_state))
        });
        wanting.take(most).collect()
    }
}

fn square<'a>(cells: impl Iterator<Item = &'a &'a CellVerdict>) -> Square {
    let squares = cells.map(|cell| match cell.state {
        CellState::Upheld => Square::Upheld,
        CellState::Violated => Square::Violated,
        CellState::Inconclusive(_) => Square::Inconclusive,
    });
    squares.max().unwrap_or(Square::Absent)
}
