//! Reports: files and terminal output made from events and a finished judgement. No judgement is made here.
