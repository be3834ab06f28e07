//! Writing a skeleton: statements, their clauses, and what expressions refer to.
//!
//! Invariant: every clause of a statement is written, in the scope that it has.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use super::expression::Empty;
use super::{NOTHING, OWN, figure};
use crate::sql::depth::{Ground, TooDeep};
use crate::sql::survey::{Unknown, unknown};

pub(super) struct Writer {
    pub(super) text: String,
    pub(super) places: Vec<(usize, usize)>,
    ground: Ground,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            text: String::new(),
            places: Vec::new(),
            ground: Ground::here(),
        }
    }
}

impl Writer {
    pub(super) fn ground(&self) -> Result<(), Unknown> {
        let check = self.ground.check();
        check.map_err(|TooDeep| Unknown::TooDeep)
    }

    /// Notes that a name comes next, and where the statement has it.
    pub(super) fn place(&mut self, location: i32) -> Result<(), Unknown> {
        let there = usize::try_from(location);
        let there = there.map_err(|_| Unknown::Construct("a name without a place".into()))?;
        self.places.push((self.text.len(), there));
        Ok(())
    }

    pub(super) fn quoted(&mut self, name: &str) {
        self.text.push('"');
        for part in name.split_inclusive('"') {
            self.text.push_str(part);
            if part.ends_with('"') {
                self.text.push('"');
            }
        }
        self.text.push('"');
    }

    /// ` ("a", "b")`, or nothing.
    pub(super) fn list<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        let mut any = false;
        for name in names {
            self.text.push_str(if any { ", " } else { " (" });
            self.quoted(name);
            any = true;
        }
        if any {
            self.text.push(')');
        }
    }

    fn each<T>(
        &mut self,
        all: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Unknown>,
    ) -> Result<(), Unknown> {
        for (at, one) in all.into_iter().enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            write(self, one)?;
        }
        Ok(())
    }

    pub(super) fn statement(&mut self, node: Node<'_>) -> Result<(), Unknown> {
        self.ground()?;
        match node {
            Node::SelectStmt(select) => self.select(select),
            Node::InsertStmt(insert) => self.insert(insert),
            Node::UpdateStmt(update) => self.update(update),
            Node::DeleteStmt(delete) => self.delete(delete),
            Node::MergeStmt(merge) => self.merge(merge),
            other => Err(unknown(other)),
        }
    }

    fn with(&mut self, with: Option<&nodes::WithClause>) -> Result<(), Unknown> {
        let Some(with) = with else { return Ok(()) };
        self.text.push_str(match with.recursive {
            true => "WITH RECURSIVE ",
            false => "WITH ",
        });
        self.each(with.ctes(), |writer, cte| {
            writer.quoted(cte.ctename().unwrap_or_default());
            let search = cte
                .search_clause()
                .and_then(|search| search.search_seq_column());
            let cycle = cte.cycle_clause();
            let mark = cycle.and_then(|cycle| cycle.cycle_mark_column());
            let path = cycle.and_then(|cycle| cycle.cycle_path_column());
            let added = || [search, mark, path].into_iter().flatten();
            let own = cte.aliascolnames().is_empty() && added().next().is_some();
            let named = strings(cte.aliascolnames());
            writer.list(own.then_some(OWN).into_iter().chain(named).chain(added()));
            writer.text.push_str(" AS (");
            writer.statement(cte.ctequery())?;
            writer.text.push(')');
            Ok(())
        })?;
        self.text.push(' ');
        Ok(())
    }

    fn select(&mut self, select: &nodes::SelectStmt) -> Result<(), Unknown> {
        self.with(select.with_clause())?;
        self.body(select)?;
        if !select.sort_clause().is_empty() {
            self.text.push_str(" ORDER BY ");
            self.each(select.sort_clause(), |writer, sort| {
                writer.expression(sort.node())
            })?;
        }
        // No column can be named in these, but by a subquery.
        for (keyword, bound) in [
            (" LIMIT ", select.limit_count()),
            (" OFFSET ", select.limit_offset()),
        ] {
            if !matches!(bound, Node::None | Node::A_Const(_) | Node::ParamRef(_)) {
                self.text.push_str(keyword);
                self.expression(bound)?;
            }
        }
        Ok(())
    }

    fn body(&mut self, select: &nodes::SelectStmt) -> Result<(), Unknown> {
        // A chain of set operations leans to the left, and can be long.
        let mut rest = Vec::new();
        let mut first = select;
        while let (Some(left), Some(right)) = (first.larg(), first.rarg()) {
            rest.push(right);
            first = left;
            if closed(left) {
                break;
            }
        }
        match rest.is_empty() {
            true => self.plain(select)?,
            false => self.operand(first)?,
        }
        for right in rest.into_iter().rev() {
            self.text.push_str(" UNION ALL ");
            self.operand(right)?;
        }
        Ok(())
    }

    fn operand(&mut self, select: &nodes::SelectStmt) -> Result<(), Unknown> {
        self.ground()?;
        let inline = !closed(select) && select.larg().is_none() && select.values_lists().is_empty();
        if inline {
            return self.plain(select);
        }
        self.text.push('(');
        self.select(select)?;
        self.text.push(')');
        Ok(())
    }

    /// SELECT … or VALUES, without what surrounds them.
    fn plain(&mut self, select: &nodes::SelectStmt) -> Result<(), Unknown> {
        if !select.values_lists().is_empty() {
            self.text.push_str("VALUES ");
            return self.each(select.values_lists(), |writer, row| {
                let Node::NodeList(row) = row else {
                    return Err(unknown(row));
                };
                writer.text.push('(');
                writer.each(row, Self::expression)?;
                writer.text.push(')');
                Ok(())
            });
        }
        self.text.push_str("SELECT ");
        // DISTINCT alone is a list of nothing.
        let distinct = select.distinct_clause();
        if distinct.iter().any(|one| !matches!(one, Node::None)) {
            self.text.push_str("DISTINCT ON (");
            self.each(distinct, Self::expression)?;
            self.text.push_str(") ");
        }
        match select.target_list().is_empty() {
            true => {
                self.text.push_str("NULL AS ");
                self.quoted(NOTHING);
            }
            false => self.each(select.target_list(), Self::target)?,
        }
        if !select.from_clause().is_empty() {
            self.text.push_str(" FROM ");
            self.each(select.from_clause(), Self::item)?;
        }
        // These see the same names.
        let conditions = [select.where_clause(), select.having_clause()];
        let windows = select.window_clause().iter();
        self.condition(conditions.into_iter().chain(windows))?;
        if !select.group_clause().is_empty() {
            self.text.push_str(" GROUP BY ");
            self.each(select.group_clause(), Self::expression)?;
        }
        Ok(())
    }

    /// An item of a target list, always with its name.
    fn target(&mut self, target: &nodes::ResTarget) -> Result<(), Unknown> {
        let star = |fields: &NodeList| matches!(fields.iter().next_back(), Some(Node::A_Star(_)));
        match target.val() {
            Node::ColumnRef(column) if star(column.fields()) => self.column(column),
            // As many columns as the row has.
            Node::A_Indirection(row) if star(row.indirection()) => {
                self.text.push_str("NOT ");
                self.call(target.val())
            }
            value => {
                self.expression(value)?;
                self.text.push_str(" AS ");
                self.quoted(target.name().unwrap_or_else(|| figure::name(value)));
                Ok(())
            }
        }
    }

    fn returning(&mut self, returning: Option<&nodes::ReturningClause>) -> Result<(), Unknown> {
        let Some(returning) = returning else {
            return Ok(());
        };
        self.text.push_str(" RETURNING ");
        self.each(returning.exprs(), |writer, target| match target {
            Node::ResTarget(target) => writer.target(target),
            other => Err(unknown(other)),
        })
    }

    fn insert(&mut self, insert: &nodes::InsertStmt) -> Result<(), Unknown> {
        self.with(insert.with_clause())?;
        self.text.push_str("INSERT INTO ");
        self.written(insert.relation())?;
        self.text.push(' ');
        match insert.select_stmt() {
            Node::None => self.text.push_str("DEFAULT VALUES"),
            rows => self.statement(rows)?,
        }
        if let Some(conflict) = insert.on_conflict_clause() {
            self.text.push_str(" ON CONFLICT DO UPDATE SET \"x\" = ");
            self.call(Node::OnConflictClause(conflict))?;
        }
        self.returning(insert.returning_clause())
    }

    fn update(&mut self, update: &nodes::UpdateStmt) -> Result<(), Unknown> {
        self.with(update.with_clause())?;
        self.text.push_str("UPDATE ");
        self.written(update.relation())?;
        self.text.push_str(" SET \"x\" = ");
        self.calls(
            update.target_list().iter().map(Node::ResTarget),
            Empty::Null,
        )?;
        self.items(" FROM ", update.from_clause())?;
        self.condition([update.where_clause()])?;
        self.returning(update.returning_clause())
    }

    fn delete(&mut self, delete: &nodes::DeleteStmt) -> Result<(), Unknown> {
        self.with(delete.with_clause())?;
        self.text.push_str("DELETE FROM ");
        self.written(delete.relation())?;
        self.items(" USING ", delete.using_clause())?;
        self.condition([delete.where_clause()])?;
        self.returning(delete.returning_clause())
    }

    fn merge(&mut self, merge: &nodes::MergeStmt) -> Result<(), Unknown> {
        self.with(merge.with_clause())?;
        self.text.push_str("MERGE INTO ");
        self.written(merge.relation())?;
        self.text.push_str(" USING ");
        self.item(merge.source_relation())?;
        self.text.push_str(" ON ");
        self.expression(merge.join_condition())?;
        self.text.push_str(" WHEN MATCHED THEN UPDATE SET \"x\" = ");
        let clauses = merge.merge_when_clauses().iter();
        self.calls(clauses.map(Node::MergeWhenClause), Empty::Null)?;
        self.returning(merge.returning_clause())
    }

    fn written(&mut self, relation: Option<&nodes::RangeVar>) -> Result<(), Unknown> {
        match relation {
            Some(relation) => self.relation(relation),
            None => Err(Unknown::Construct("a statement without a target".into())),
        }
    }

    fn items(&mut self, keyword: &str, items: &NodeList) -> Result<(), Unknown> {
        if items.is_empty() {
            return Ok(());
        }
        self.text.push_str(keyword);
        self.each(items, Self::item)
    }

    fn condition<'n>(&mut self, all: impl IntoIterator<Item = Node<'n>>) -> Result<(), Unknown> {
        let before = self.text.len();
        self.text.push_str(" WHERE ");
        let after = self.text.len();
        self.calls(all, Empty::Nothing)?;
        if self.text.len() == after {
            self.text.truncate(before);
        }
        Ok(())
    }
}

/// Whether a SELECT has clauses around it, so that it stands in parentheses.
fn closed(select: &nodes::SelectStmt) -> bool {
    select.with_clause().is_some()
        || !select.sort_clause().is_empty()
        || !matches!(select.limit_count(), Node::None)
        || !matches!(select.limit_offset(), Node::None)
}

pub(super) fn strings(names: &NodeList) -> impl Iterator<Item = &str> {
    names.iter().filter_map(Node::as_str)
}
