// What a terminal of each role may ask for, as the database has it (pos.may in sql/terminals.sql; a test compares them),
// and offering no more than that. Whoever has no role, for there is no authentication, may ask for everything.

export const ROLES = ['display', 'terminal', 'manager']
const OF_WAITERS = ['UPDATE_TABLE', 'UPDATE_ORDER', 'NEXT_ORDER_ID', 'MESSAGE']
const OFFERED = ['UPDATE_TABLE', 'UPDATE_ORDER', 'UPDATE_MENU', 'UPDATE_SETTINGS', 'MESSAGE']

export const may = (role, type) => role === null || role === 'manager' || (role === 'terminal' && OF_WAITERS.includes(type))

/** The roles that may, for who must ask one of them. */
export const rolesFor = (type) => ROLES.filter((role) => may(role, type))

/** Of what the page offers, what a role is denied. */
export const deniedTo = (role) => OFFERED.filter((type) => !may(role, type))

/** Have elements be there only for who may ask for what they do: floor.css hides them from others. */
export function needs(types, ...elements) {
  for (const element of elements) element.dataset.needs = types
}
