"""Kills real commands at random moments, and looks at what they left.

A file a command, found by the folder's listing. It offers

    COMMAND                         the words after ``fa-track``, or a function
    prepare(folder, fa_track)       makes the folder in which the command begins, by other commands
    held(folder)                    what the folder holds, without times
    broken(before, left, after)     what a kill broke, a line each: what the folder held ``before`` the command, what
                                    was ``left`` of it, and what an undisturbed command has made of it
    again(folder, fa_track)         brings the work to its end after a kill; where there is none, the command does
    unlike(left, again, after)      wherein a rerun differs from an undisturbed run, or did again what was done

``python -m tests.faults --kills 50`` is the whole set.
"""
