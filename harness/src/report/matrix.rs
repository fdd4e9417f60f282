//! The operation × application role matrix that several formats draw, and the counts beside it.

use crate::cell::{PoolState, Relation};
use crate::verdict::{CellState, CellVerdict, Judgement, Verdict};

/// What a square of the matrix shows: the worst of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Square {
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
    /// What a legend lists.
    pub const ALL: [Self; 4] = [Self::Upheld, Self::Violated, Self::Inconclusive, Self::Absent];

    /// The square of one cell.
    pub fn of(state: &CellState) -> Self {
        match state {
            CellState::Upheld => Self::Upheld,
            CellState::Violated => Self::Violated,
            CellState::Inconclusive(_) => Self::Inconclusive,
        }
    }

    /// The square of a requirement's verdict.
    pub fn of_verdict(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Upheld => Self::Upheld,
            Verdict::Violated => Self::Violated,
            Verdict::Inconclusive(_) => Self::Inconclusive,
            Verdict::NotApplicable(_) => Self::Absent,
        }
    }

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
            Self::Absent => "not in plan",
            Self::Upheld => "upheld",
            Self::Inconclusive => "inconclusive",
            Self::Violated => "violated",
        }
    }
}

/// The matrix.
pub(super) struct Matrix<'r> {
    /// Application roles, in the order of the plan's cells.
    pub roles: Vec<&'r str>,
    /// Operations with a square a role and their cells.
    pub rows: Vec<Row<'r>>,
}

/// One operation.
pub(super) struct Row<'r> {
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
            let known = rows.iter_mut().find(|row| row.operation == cell.cell.operation);
            match known {
                Some(row) => row.cells.push(cell),
                None => rows.push(Row { operation: &cell.cell.operation, squares: Vec::new(), cells: vec![cell] }),
            }
        }
        for row in &mut rows {
            row.squares = roles.iter().map(|role| worst(row.cells.iter().filter(|c| c.cell.role == *role))).collect();
        }
        Self { roles, rows }
    }
}

impl<'r> Row<'r> {
    /// The cells of one role, relation and pool state; the plan has at most one.
    pub fn find(&self, role: &str, relation: Relation, pool_state: PoolState) -> Option<&'r CellVerdict> {
        let here = self
            .cells
            .iter()
            .filter(|c| c.cell.role == role && c.cell.relation == relation && c.cell.pool_state == pool_state);
        here.max_by_key(|c| Square::of(&c.state)).copied()
    }

    /// The operation's inconclusive cells, each with its reason.
    pub fn inconclusive(&self) -> Vec<(&'r CellVerdict, &'r str)> {
        let open = self.cells.iter().filter_map(|c| match &c.state {
            CellState::Inconclusive(why) => Some((*c, why.as_str())),
            _ => None,
        });
        open.collect()
    }
}

fn worst<'a>(cells: impl Iterator<Item = &'a &'a CellVerdict>) -> Square {
    let squares = cells.map(|cell| Square::of(&cell.state));
    squares.max().unwrap_or(Square::Absent)
}

/// How many of each verdict, over requirements or cells.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    /// Upheld.
    pub upheld: usize,
    /// Violated.
    pub violated: usize,
    /// Inconclusive.
    pub inconclusive: usize,
    /// Not applicable, or not in the plan.
    pub absent: usize,
}

impl Tally {
    /// Counts squares.
    pub fn of(squares: impl Iterator<Item = Square>) -> Self {
        squares.fold(Self::default(), |mut tally, square| {
            match square {
                Square::Upheld => tally.upheld += 1,
                Square::Violated => tally.violated += 1,
                Square::Inconclusive => tally.inconclusive += 1,
                Square::Absent => tally.absent += 1,
            }
            tally
        })
    }

    /// The requirements' tally.
    pub fn requirements(judgement: &Judgement) -> Self {
        let verdicts = judgement.requirements.iter();
        Self::of(verdicts.map(|r| Square::of_verdict(&r.verdict)))
    }

    /// The cells' tally.
    pub fn cells(judgement: &Judgement) -> Self {
        Self::of(judgement.cells.iter().map(|c| Square::of(&c.state)))
    }

    /// The parts that are not nought, such as `12 upheld, 1 violated`.
    pub fn words(self, absent: &str) -> String {
        let parts = [
            (self.upheld, "upheld"),
            (self.violated, "violated"),
            (self.inconclusive, "inconclusive"),
            (self.absent, absent),
        ];
        let said = parts.iter().filter(|(number, _)| *number > 0);
        let said: Vec<String> =
            said.map(|(number, word)| format!("{} {word}", super::text::grouped(*number as u64))).collect();
        match said.is_empty() {
            true => "none".into(),
            false => said.join(", "),
        }
    }
}
