// What a terminal of each role may ask for, as the database has it (pos.may in sql/terminals.sql; a test compares them).

export const ROLES = ['display', 'terminal', 'manager']
const OF_WAITERS = ['UPDATE_TABLE', 'UPDATE_ORDER', 'NEXT_ORDER_ID', 'MESSAGE']

export const may = (role, type) => role === 'manager' || (role === 'terminal' && OF_WAITERS.includes(type))

/** The roles that may, for who must ask one of them. */
export const rolesFor = (type) => ROLES.filter((role) => may(role, type))
