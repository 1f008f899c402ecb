//! A linear program that grows: the largest sum of non-negative variables under capacities, with columns made on demand.
//! The revised simplex method with the inverse of the basis as a dense matrix. Dantzig & Orchard-Hays 1954; columns on
//! demand: Gilmore & Gomory 1961.

/// What is nearer to 0 than this is rounding.
const TINY: f64 = 1e-9;

/// Rows and how much of each a column uses.
pub type Column = Vec<(usize, f64)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Basic {
    Slack(usize),
    Variable(usize),
}

pub struct Program {
    rows: usize,
    /// By row of the basis: which variable, and its value.
    basis: Vec<Basic>,
    values: Vec<f64>,
    inverse: Vec<f64>,
    /// What one more unit of each row's capacity is worth.
    prices: Vec<f64>,
    columns: Vec<Column>,
}

impl Program {
    /// Capacities are positive.
    pub fn new(capacities: &[f64]) -> Program {
        let rows = capacities.len();
        let mut inverse = vec![0.0; rows * rows];
        (0..rows).for_each(|at| inverse[at * rows + at] = 1.0);
        Program {
            rows,
            basis: (0..rows).map(Basic::Slack).collect(),
            values: capacities.to_vec(),
            inverse,
            prices: vec![0.0; rows],
            columns: Vec::new(),
        }
    }

    pub fn prices(&self) -> &[f64] {
        &self.prices
    }

    /// Elementary operations a pivot takes.
    pub fn pivot_steps(&self) -> u64 {
        (self.rows * self.rows) as u64
    }

    /// Whether the variable of such a column, made larger, would make the sum larger.
    pub fn welcomes(&self, column: &Column) -> bool {
        column.iter().map(|&(row, uses)| self.prices[row] * uses).sum::<f64>() < 1.0 - 1e-7
    }

    /// Makes a new variable basic. False: no row limits it, or the numbers have become unreliable.
    pub fn enter(&mut self, column: Column) -> bool {
        self.columns.push(column);
        let variable = self.columns.len() - 1;
        self.bring_in(Basic::Variable(variable)) && self.repair()
    }

    /// Rows with a negative price are better not used to the full: their slacks come in until there is none.
    fn repair(&mut self) -> bool {
        for _ in 0..4 * self.rows {
            let worst = (0..self.rows).min_by(|&a, &b| self.prices[a].total_cmp(&self.prices[b]));
            match worst {
                Some(row) if self.prices[row] < -1e-7 => {
                    if !self.bring_in(Basic::Slack(row)) {
                        return false;
                    }
                }
                _ => break,
            }
        }
        true
    }

    fn bring_in(&mut self, entering: Basic) -> bool {
        let rows = self.rows;
        let slack;
        let (column, worth): (&[(usize, f64)], f64) = match entering {
            Basic::Slack(row) => {
                slack = [(row, 1.0)];
                (&slack, 0.0)
            }
            Basic::Variable(variable) => (&self.columns[variable], 1.0),
        };
        let gain = worth - column.iter().map(|&(row, uses)| self.prices[row] * uses).sum::<f64>();
        let along = |at: usize| {
            let line = &self.inverse[at * rows..(at + 1) * rows];
            column.iter().map(|&(row, uses)| line[row] * uses).sum::<f64>()
        };
        let direction: Vec<f64> = (0..rows).map(along).collect();
        let ratio = |at: usize| self.values[at].max(0.0) / direction[at];
        // Of rows that become empty at once the one with the largest pivot: it keeps numbers sound.
        let leaving = (0..rows).filter(|&at| direction[at] > TINY).min_by(|&a, &b| {
            let equal = (ratio(a) - ratio(b)).abs() <= TINY;
            if equal { direction[b].total_cmp(&direction[a]) } else { ratio(a).total_cmp(&ratio(b)) }
        });
        let Some(leaving) = leaving else { return false };
        let step = ratio(leaving);
        let pivot = direction[leaving];
        self.values.iter_mut().zip(&direction).for_each(|(value, along)| *value -= step * along);
        self.values[leaving] = step;
        self.basis[leaving] = entering;
        (0..rows).for_each(|row| self.inverse[leaving * rows + row] /= pivot);
        let line = self.inverse[leaving * rows..(leaving + 1) * rows].to_vec();
        for at in (0..rows).filter(|&at| at != leaving && direction[at] != 0.0) {
            let other = &mut self.inverse[at * rows..(at + 1) * rows];
            other.iter_mut().zip(&line).for_each(|(a, b)| *a -= direction[at] * b);
        }
        self.prices.iter_mut().zip(&line).for_each(|(price, b)| *price += gain * b);
        self.prices.iter().all(|price| price.is_finite())
    }

    /// Variables by the order they came in, with their values; those that are 0 left out.
    pub fn solution(&self) -> Vec<(usize, f64)> {
        let value = |(basic, &value): (&Basic, &f64)| match *basic {
            Basic::Variable(variable) if value > TINY => Some((variable, value)),
            _ => None,
        };
        let mut solution: Vec<_> = self.basis.iter().zip(&self.values).filter_map(value).collect();
        solution.sort_unstable_by_key(|&(variable, _)| variable);
        solution
    }

    pub fn sum(&self) -> f64 {
        self.solution().iter().map(|&(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn columns_come_in_until_none_is_welcome() {
        // x + y within 4, x within 3, y + z within 2, z within 1.
        let mut program = Program::new(&[4.0, 3.0, 2.0, 1.0]);
        let columns = [vec![(0, 1.0), (1, 1.0)], vec![(0, 1.0), (2, 1.0)], vec![(2, 1.0), (3, 1.0)]];
        let mut rounds = 0;
        while let Some(column) = columns.iter().find(|column| program.welcomes(column)) {
            assert!(program.enter(column.clone()));
            rounds += 1;
            assert!(rounds < 20);
        }
        assert!((program.sum() - 5.0).abs() < 1e-9);
        let worth: f64 = program.prices().iter().zip([4.0, 3.0, 2.0, 1.0]).map(|(p, c)| p * c).sum();
        assert!((worth - 5.0).abs() < 1e-9, "prices prove it");
    }

    #[test]
    fn what_nothing_limits_is_refused() {
        assert!(!Program::new(&[1.0]).enter(vec![]));
    }
}
