//! Who rules: each boss that starts takes a term above every term that its database or its store ever heard of.
//!
//! The database alone cannot tell that it was restored from an older backup: its term was then taken before, and what
//! it says of machines may be long over. So the store remembers, too, how far the ruling boss was.

/// How far a boss was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// The term it ruled in.
    pub term: u64,
    /// How often machines had moved from one state to another, all of them together.
    pub moves: u64,
}

/// What a boss that starts has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The term it rules in.
    pub term: u64,
    /// The store has seen more than the database knows of: the database was restored from an older backup, or is
    /// another one. What it says of machines is not to be acted on before somebody looked.
    pub database_is_older: bool,
}

impl Takeover {
    /// Decides by what the database and the store say.
    pub fn of(database: Standing, store: Standing) -> Self {
        // The last number is never reached by counting; a database refuses it, so nobody rules by a damaged marker.
        let term = database.term.max(store.term).saturating_add(1);
        Self { term, database_is_older: database < store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_above_all_before_and_an_older_database_is_noticed() {
        let at = |term, moves| Standing { term, moves };
        let table = [
            (at(0, 0), at(0, 0), 1, false),
            (at(7, 40), at(7, 40), 8, false),
            (at(7, 41), at(7, 40), 8, false),
            (at(9, 3), at(7, 40), 10, false),
            (at(7, 39), at(7, 40), 8, true),
            (at(6, 99), at(7, 40), 8, true),
            (at(0, 0), at(7, 40), 8, true),
        ];
        for (database, store, term, database_is_older) in table {
            assert_eq!(Takeover::of(database, store), Takeover { term, database_is_older }, "{database:?} {store:?}");
        }
    }
}
