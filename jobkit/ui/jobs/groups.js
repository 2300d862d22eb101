// Rows of the table that stand for groups of jobs (groups.py). What is special about them is a feature's.

/** Classes of features that show such rows; see batches.js. */
const GROUPS = [];

/** Return whether a row stands for a group: no id of a job has a space. */
const isGroup = (id) => id.includes(" ");
