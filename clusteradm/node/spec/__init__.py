"""Pure data that the admin side and the hosts share: the modules' options, and what crosses between both."""
