//! Where a value comes from: the variable and the steps from it. Paths share their room as Go's slices do in cel-go's
//! estimator: what is taken of `x` next may overwrite what was taken of it before (`x.all(a, a.l.all(b, b != a.k))`
//! counts the items of `a.l` by what is known of `a.k`). Definitions are accepted by these numbers, so that this is kept.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Shape, Start};

pub(super) const ITEMS: &str = "@items";
pub(super) const KEYS: &str = "@keys";
pub(super) const POSITIONS: &str = "@indices";
/// No schema is that deep.
const LONGEST: usize = 128;
/// A step that nothing has.
const NOWHERE: &str = "@nowhere";

/// Steps, as many as are used of a room that others may use as well.
#[derive(Clone)]
pub(super) struct Path<'e> {
    room: Rc<RefCell<Vec<&'e str>>>,
    len: usize,
}

impl<'e> Path<'e> {
    fn alone(steps: Vec<&'e str>) -> Self {
        let len = steps.len();
        Self { room: Rc::new(RefCell::new(steps)), len }
    }

    pub fn variable(name: &'e str) -> Self {
        Self::alone(vec![name])
    }

    /// What is taken of a value; `None`: of one that the expression made, which has no path.
    pub fn step(of: Option<&Self>, step: &'e str) -> Self {
        let Some(of) = of else { return Self::alone(vec![step]) };
        let len = of.len + 1;
        if let Some(next) = of.room.borrow_mut().get_mut(of.len) {
            *next = step;
            return Self { room: of.room.clone(), len };
        }
        if len > LONGEST {
            return Self::alone(vec![NOWHERE, NOWHERE]);
        }
        // Full: room for twice as many.
        let mut steps = of.room.borrow().clone();
        steps.push(step);
        steps.resize(of.len * 2, NOWHERE);
        Self { room: Rc::new(RefCell::new(steps)), len }
    }

    pub fn shape<'s>(&self, start: Start<'_, 's>) -> Option<&'s dyn Shape> {
        let room = self.room.borrow();
        let (first, rest) = room.get(..self.len)?.split_first()?;
        let mut at = start(first)?;
        for step in rest {
            at = match *step {
                ITEMS => at.items(),
                KEYS => at.keys(),
                field => at.field(field),
            }?;
        }
        Some(at)
    }
}
